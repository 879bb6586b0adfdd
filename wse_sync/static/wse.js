/**
 * The browser's end of a WSE conversation: messages and calls, both ways, over a WebSocket.
 *
 * An ES module without dependencies. Served by every WseServer, at `<path>/wse.js`.
 * @module
 */

/** What a client is doing. */
export const WSE_STATUS = Object.freeze({
  IDLE: "IDLE",
  CONNECTING: "CONNECTING",
  READY: "READY",
  RE_CONNECTING: "RE_CONNECTING",
  OFFLINE: "OFFLINE",
});

/** The text of a close frame. */
export const WSE_REASON = Object.freeze({
  NO_REASON: "",
  BY_CLIENT: "wse.by-client",
  BY_SERVER: "wse.by-server",
  NOT_AUTHORIZED: "wse.not-authorized",
  AUTH_TIMEOUT: "wse.auth-timeout",
  PROTOCOL_ERR: "wse.protocol-error",
  CLIENTS_CONCURRENCY: "wse.clients-concurrency",
  SLOW_CONSUMER: "wse.slow-consumer",
  RATE_LIMIT: "wse.rate-limit",
  SESSION_EXPIRED: "wse.session-expired",
});

/** The `code` of a {@link WseError}. */
export const WSE_ERROR = Object.freeze({
  RP_TIMEOUT: "wse.client.rp.timeout",
  RP_DISCONNECT: "wse.client.rp.disconnect",
  RP_SEND_FAILED: "wse.client.rp.send-failed",
  RP_NOT_REGISTERED: "wse.server.rp.not-registered",
  RP_ALREADY_REGISTERED: "wse.server.rp.already-registered",
  RP_EXECUTION_FAILED: "wse.server.rp.failed",
  CONNECTION_NOT_READY: "wse.client.not-ready",
  CONNECTION_CLOSED: "wse.client.connection-closed",
  CLIENT_ALREADY_CONNECTED: "wse.client.already-connected",
  WS_CLIENT_ERROR: "wse.client.ws-error",
  NOT_AUTHORIZED: "wse.not-authorized",
  INVALID_CRA_HANDLER: "wse.client.invalid-cra-handler",
  INVALID_CRA_GENERATOR: "wse.server.auth.invalid-cra-generator",
  IDENTIFY_HANDLER_MISSING: "wse.server.auth.identify-handler-missing",
  NO_CLIENT_CONNECTION: "wse.server.client.connection-missing",
  PROTOCOL_VIOLATION: "wse.server.protocol-violation",
  CONNECTION_ERROR: "wse.server.connection-error",
  MESSAGE_PROCESSING_ERROR: "wse.server.msg-processing-error",
});

/** Something failed; `code` says what. Throw one in a procedure to fail the call with it. */
export class WseError extends Error {
  /**
   * @param {string} code One of {@link WSE_ERROR}, or a string of the application's.
   * @param {Record<string, any>} [details] More for programs. It travels with a failed call.
   * @param {string} [message] More for people.
   */
  constructor(code, details = {}, message = code) {
    super(message);
    this.name = "WseError";
    this.code = code;
    this.details = details;
  }
}
