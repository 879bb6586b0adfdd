// A worker with a client of its own.

import { WseClient } from "../ws/wse.js"

postMessage(await new WseClient("/ws", { reconnect: true }).connect("ann"))
