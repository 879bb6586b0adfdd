import { WseClient } from "http://127.0.0.1:8765/ws/wse.js"

const client = new WseClient("http://127.0.0.1:8765/ws", { reconnect: true })
export const welcome = await client.connect("ann")
