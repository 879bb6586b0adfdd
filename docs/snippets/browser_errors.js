import { WSE_ERROR, WseError } from "/ws/wse.js"

export async function ask(client, name, payload) {
  try {
    return await client.call(name, payload, { timeout: 2000 })
  } catch (error) {
    if (!(error instanceof WseError)) throw error
    if (error.code === WSE_ERROR.CONNECTION_NOT_READY) return "not connected"
    if (error.code === WSE_ERROR.RP_TIMEOUT) return "no answer in time"
    if (error.code === WSE_ERROR.RP_DISCONNECT) return `lost: ${error.details.disconnected}`
    return `${error.details.rp} failed with ${error.code}: ${error.message}`
  }
}
