import { WseClient } from "/ws/wse.js"

const client = new WseClient("/ws", { reconnect: true })

async function token() {
  const response = await fetch("/token", { method: "POST" })
  if (!response.ok) throw new Error(`no token: ${response.status}`)
  return response.text()
}

export const welcome = await client.connect(token)
