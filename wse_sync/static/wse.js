export const WSE_STATUS = {
	IDLE: "IDLE",
	CONNECTING: "CONNECTING",
	READY: "READY",
	RE_CONNECTING: "RE_CONNECTING",
	OFFLINE: "OFFLINE",
}

export const WSE_REASON = {
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
}

export const WSE_ERROR = {
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
}

const RETRY_CODES = [1001, 1005, 1006, 1011, 1012, 1013, 1014]
const MAX_SIZE = 2 ** 23

/** @typedef {(...values: any[]) => any} Handler */

/** `code` says what failed. */
export class WseError extends Error {
	name = "WseError"

	constructor(code = "", details = /** @type {any} */ ({}), message = code) {
		super(message)
		this.code = code
		this.details = details
	}
}

/** @type {Handler} */
function pack(frame, code = WSE_ERROR.RP_SEND_FAILED) {
	try {
		return JSON.stringify(frame, (key, value) => {
			if (typeof value === "number" && !isFinite(value)) throw Error(`${key} is ${value}`)
			return value
		})
	} catch (error) {
		throw new WseError(code, {}, `${error}`)
	}
}

/** @type {Handler} */
function after(ms, run) {
	return setTimeout(run, Math.min(ms ?? Infinity, 2 ** 31 - 1)) // the limit of timers
}

/** @type {Handler} */
function absolute(url) {
	return new URL(url, location.href).href.replace(/^http/, "ws")
}

/** @type {Handler} */
function isFull(items, size) {
	for (const { data } of items) size += data.length
	return items.length >= 10_000 || (items[0] && size > MAX_SIZE)
}

/** @param {Handler} report */
function signal(report, sticky = false) {
	const handlers = new Map()
	let latest = /** @type {any} */ (null)
	/** @param {Handler} handler */
	async function run(handler) {
		if (handlers.get(handler)) handlers.delete(handler)
		try {
			await handler(...latest)
		} catch (error) {
			report(error)
		}
	}
	/** @param {Handler} handler */
	function bind(handler, once = false) {
		handlers.set(handler, once)
		if (sticky && latest) run(handler)
		return handler
	}
	/** @param {Handler} handler */
	bind.off = (handler) => handlers.delete(handler)
	/** @param {any[]} values */
	bind.emit = async (...values) => {
		await null // handlers find the client in order
		latest = values
		return Promise.all([...handlers.keys()].map(run))
	}
	return bind
}

/** Talks to a WSE server. Times are milliseconds; null is no limit. */
export class WseClient {
	/** @param {string | URL} url */
	constructor(
		url,
		{
			reconnect = false,
			backoff: { initial = 1000, factor = 2, maximum = 30_000 } = {},
			connectTimeout = /** @type {number | null} */ (10_000),
			callTimeout = /** @type {number | null} */ (20_000),
			pingTimeout = /** @type {number | null} */ (20_000),
		} = {},
	) {
		const client = this
		const procedures = new Map()
		const types = new Map()
		const calls = new Map()
		let [ws, waiting, alarm, ackTimer, target, session = null] = /** @type {any[]} */ ([])
		let [frames, lane] = /** @type {any[][]} */ ([[], []])
		let turn = 0, failures = 0, lastStamp = 0, stampBefore = 0
		let acknowledged = 0, owed = 0, owedSize = 0
		let busy = false, opened = false

		this.url = absolute(url)
		this.status = WSE_STATUS.IDLE
		this.cid = /** @type {string | null} */ (null)
		this.channel = {
			/** @param {string} type @param {Handler} handler */
			on: (type, handler) => byType(type)(handler),
			/** @param {string} type @param {Handler} handler */
			once: (type, handler) => byType(type)(handler, true),
			/** @param {string} type @param {Handler} handler */
			off: (type, handler) => byType(type).off(handler),
		}
		const when = (this.when = {
			connected: signal(report),
			ready: signal(report, true),
			closed: signal(report),
			error: signal(console.error),
			updated: signal(report, true),
			ignored: signal(report),
		})
		when.error(console.error)

		/** @type {Handler} */
		function report(error) {
			when.error.emit(error)
		}

		function byType(type = "") {
			return types.get(type) ?? types.set(type, signal(report)).get(type)
		}

		/** @param {Handler} handler */
		this.challenge = (handler) => {
			if (typeof handler !== "function") throw new WseError(WSE_ERROR.INVALID_CRA_HANDLER)
			solver = handler
		}
		let solver = this.challenge // which throws

		/** @param {string} name @param {Handler} handler */
		this.register = (name, handler) => {
			if (procedures.has(name)) throw new WseError(WSE_ERROR.RP_ALREADY_REGISTERED, { rp: name })
			procedures.set(name, handler)
		}

		/** @param {string} name */
		this.unregister = (name) => {
			if (!procedures.delete(name)) throw new WseError(WSE_ERROR.RP_NOT_REGISTERED, { rp: name })
		}

		/** @param {string} type @param {any} [payload] */
		this.send = (type, payload) => submit(type, payload, null)

		/** @param {string} name @param {any} [payload]
		 * @param {{ timeout?: number | null, signal?: AbortSignal }} options */
		this.call = async (name, payload, { timeout = callTimeout, signal } = {}) => {
			signal?.throwIfAborted()
			const stamp = `${++lastStamp}`
			submit(name, payload, stamp)
			let timer = 0
			const forget = new AbortController()
			return new Promise((resolve, reject) => {
				timer = after(timeout, () => reject(new WseError(WSE_ERROR.RP_TIMEOUT, { rp: name })))
				signal?.addEventListener("abort", () => reject(signal.reason), forget)
				calls.set(stamp, { name, resolve, reject })
				setTimeout(letCallsPass)
			}).finally(() => {
				clearTimeout(timer)
				forget.abort()
				calls.delete(stamp)
				frames = frames.filter((frame) => frame.written || frame.stamp !== stamp)
			})
		}

		/** @param {any} [identity] may be a function */
		this.connect = async (identity = "", meta = {}) => {
			if (waiting) throw new WseError(WSE_ERROR.CLIENT_ALREADY_CONNECTED)
			return this.jump(this.url, { identity, meta })
		}

		/** @param {string | URL} url @param {{ identity?: any, meta?: object }} [given] */
		this.jump = async (url, given) => {
			this.url = absolute(url)
			leave(4000, "jump", this.status)
			target = { identity: "", ...target, ...given }
			failures = 0
			addEventListener("pagehide", hide)
			setStatus(WSE_STATUS.CONNECTING)
			return new Promise((resolve, reject) => {
				waiting = { resolve, reject }
				dial()
			})
		}

		this.disconnect = async (reason = WSE_REASON.BY_CLIENT) => {
			leave(1000, reason)
			if (ws?.readyState < 3)
				await new Promise((resolve) => {
					ws.onclose = resolve
					after(5000, resolve)
				})
		}

		function isOpen() {
			return client.status === WSE_STATUS.READY && ws.readyState === 1
		}

		/** @type {Handler} */
		function put(data, type = "", stamp = "") {
			const written = isOpen()
			if (written) ws.send(data)
			if (!written || session) frames.push({ data, type, stamp, written })
		}

		/** @type {Handler} */
		function submit(type, payload, stamp) {
			const data = pack([type, payload, stamp])
			if (typeof type !== "string" || /^(~wse:|$)/.test(type))
				throw new WseError(WSE_ERROR.RP_SEND_FAILED)
			const comes = reconnect && waiting && client.status !== WSE_STATUS.CONNECTING
			if (isFull(frames, data.length) || (isOpen() ? ws.bufferedAmount > MAX_SIZE : !comes))
				throw new WseError(WSE_ERROR.CONNECTION_NOT_READY, { waiting: frames.length }, client.status)
			put(data, type, stamp)
		}

		function ack() {
			clearTimeout(ackTimer)
			ackTimer = null
			if (!owed || !isOpen()) return
			owed = owedSize = 0
			ws.send(pack(["~wse:ack", session.received]))
		}

		/** @type {Handler} */
		function receive({ data }) {
			clearTimeout(alarm)
			try {
				const text = typeof data === "string" ? data : new TextDecoder().decode(data)
				const [type, payload = null, stamp] = JSON.parse(text).values() // of an array
				if (typeof type !== "string" || !type) throw Error("no type")
				take(type, payload, stamp, text)
				if (session && isOpen()) watch()
			} catch (error) {
				report(new WseError(WSE_ERROR.PROTOCOL_VIOLATION, {}, `${error}`))
				leave(1000, WSE_REASON.PROTOCOL_ERR)
			}
		}

		/** @type {Handler} */
		function take(type, payload, stamp, data) {
			if (client.status !== WSE_STATUS.READY) {
				if (type === "~wse:welcome") welcome(payload, stamp)
				if (type === "~wse:challenge")
					ask(() => solver(payload), 1000, (solution) => {
						ws.send(pack([type, solution]))
						watch()
					})
				return
			}
			if (type === "~wse:ack") return acknowledge(payload)
			const failed = type === "~wse:response-err"
			const isAnswer = failed || type === "~wse:response"
			if (!isAnswer) {
				if (type.startsWith("~wse:")) throw Error(type)
				if (isFull(lane, data.length)) return end(1013, WSE_REASON.SLOW_CONSUMER)
				lane.push({ type, payload, stamp, data, era: session ?? turn })
			}
			if (session) {
				session.received++
				owedSize += data.length
				if (++owed > 63 || owedSize >= 2 ** 18) ack()
				else ackTimer ??= setTimeout(ack, 1000)
			}
			if (isAnswer) {
				const call = calls.get(stamp)
				const { code, message, details } = Object(payload)
				const rp = details?.rp || details?.rpc || call?.name
				const text = message?.replace?.(`${code}: `, "")
				if (!failed) call?.resolve(payload)
				else
					call?.reject(new WseError(code || WSE_ERROR.RP_EXECUTION_FAILED, { ...details, rp }, text))
			}
			drain()
			letCallsPass()
		}

		async function drain() {
			if (busy) return
			busy = true
			while (lane[0]) {
				const item = lane.shift()
				const { type, payload, stamp } = item
				stampBefore = lastStamp
				if (stamp) serve(item)
				else if (!(await types.get(type)?.emit(payload))?.length) when.ignored.emit(type, payload)
			}
			busy = false
		}

		// A handler that awaits a call may be called back
		function letCallsPass() {
			if (busy && calls.size && lastStamp > stampBefore)
				lane = lane.filter((item) => !(item.stamp && serve(item)))
		}

		/** @param {any} item */
		async function serve({ type, payload, stamp, era }) {
			let data
			try {
				const procedure = procedures.get(type)
				if (!procedure) throw new WseError(WSE_ERROR.RP_NOT_REGISTERED, { rp: type })
				data = pack(
					["~wse:response", await procedure(payload), stamp],
					WSE_ERROR.RP_EXECUTION_FAILED,
				)
			} catch (error) {
				report(error)
				const { name, message = `${error}` } = Object(error)
				const failed = new WseError(WSE_ERROR.RP_EXECUTION_FAILED, { origin: { name, message } })
				const { code, details } = error instanceof WseError ? error : failed
				const told = { code, message, details: { ...details, rp: type } }
				try {
					data = pack(["~wse:response-err", told, stamp])
				} catch {
					data = pack(["~wse:response-err", { ...told, details: { rp: type } }, stamp])
				}
			}
			if (era === (session ?? turn)) put(data)
		}

		function watch() {
			// In place of a ping: the server acknowledges a response that nobody awaits
			alarm = after(pingTimeout, () => {
				if (isOpen()) put(pack(["~wse:response", null, "~"]))
				alarm = after(pingTimeout, end)
			})
		}

		function acknowledge(count = 0) {
			const gone = count - acknowledged
			if (!session || !Number.isInteger(count) || (gone && !frames[gone - 1]?.written))
				throw Error(`${count} is no count`)
			acknowledged = count
			frames.splice(0, gone)
		}

		/** @type {Handler} */
		function welcome(payload, grant) {
			const granted = grant?.session
			client.cid = grant?.cid ?? null
			if (granted?.resumed) acknowledge(granted.received)
			else endSession(1006, WSE_REASON.SESSION_EXPIRED, true)
			if (granted) session ??= { id: granted.id, received: 0 }
			owed = owedSize = failures = 0
			for (const frame of frames) {
				ws.send(frame.data)
				frame.written = true
			}
			if (!session) frames = []
			setStatus(WSE_STATUS.READY)
			when.ready.emit(payload)
			waiting.resolve(payload)
		}

		/** @type {Handler} */
		function endSession(code, reason, comes) {
			const messages = /** @type {any[]} */ ([])
			frames = frames.filter(({ type, stamp, written }) => {
				if (comes && !written) return type
				if (type && !stamp) messages.push(type)
			})
			session = null
			acknowledged = 0
			if (messages[0])
				report(new WseError(WSE_ERROR.CONNECTION_CLOSED, { messages }, "messages may be lost"))
			for (const [stamp, { name, reject }] of calls)
				if (!frames.some((frame) => frame.stamp === stamp))
					reject(new WseError(WSE_ERROR.RP_DISCONNECT, { rp: name, disconnected: [code, reason] }))
		}

		function setStatus(status = "") {
			if (status !== client.status) when.updated.emit((client.status = status))
		}

		function rest() {
			clearTimeout(alarm)
			removeEventListener("online", dial)
		}

		/** @param {any} source @param {number} code @param {Handler} use */
		async function ask(source, code, use) {
			const mine = turn
			try {
				const answer = await (typeof source === "function" ? source() : source)
				if (mine === turn) use(answer)
			} catch (error) {
				if (mine !== turn) return
				report(error)
				end(code, "", error)
			}
		}

		function dial() {
			rest()
			const code = client.status === WSE_STATUS.CONNECTING ? 1000 : 1006
			ask(target.identity, code, (identity) => {
				const wse = reconnect ? { v: 1, session } : { v: 1 }
				const hi = pack(["~wse:hi", { ...target, identity, wse }])
				ws = new WebSocket(client.url, "wse-default-json")
				ws.binaryType = "arraybuffer"
				ws.onopen = () => {
					opened = true
					rest()
					when.connected.emit()
					ws.send(hi)
					watch()
				}
				ws.onmessage = receive
				ws.onclose = (/** @type {any} */ { code, reason }) => end(code, reason)
				ws.onerror = () => end()
				alarm = after(connectTimeout, end)
			})
		}

		/** @type {Handler} */
		function end(code = 1006, reason = "", error = null, next = WSE_STATUS.OFFLINE) {
			const again = reconnect && RETRY_CODES.includes(code)
			const comes = again && client.status !== WSE_STATUS.CONNECTING
			let kind = reason === WSE_REASON.NOT_AUTHORIZED ? reason : WSE_ERROR.CONNECTION_CLOSED
			if (code === 1006 && !opened) kind = WSE_ERROR.WS_CLIENT_ERROR
			rest()
			turn++
			if (!comes || !session) endSession(code, reason, comes)
			if (opened) when.closed.emit(code, reason)
			opened = false
			if (ws) ws.onopen = ws.onmessage = ws.onclose = ws.onerror = null
			ws?.close()
			if (comes) setStatus(WSE_STATUS.RE_CONNECTING)
			if (again) {
				alarm = after(Math.random() * Math.min(maximum, initial * factor ** failures++), dial)
				addEventListener("online", dial)
			} else {
				setStatus(next)
				removeEventListener("pagehide", hide)
				waiting.reject(error ?? new WseError(kind, { closed: [code, reason] }))
				waiting = null
			}
		}

		/** @type {Handler} */
		function leave(code, reason, next = WSE_STATUS.OFFLINE) {
			ack()
			if (isOpen()) frames = [] // sent before the close
			const { read } = new TextEncoder().encodeInto(reason, new Uint8Array(123))
			ws?.close(code, reason.slice(0, read))
			if (waiting) end(code, reason, null, next)
		}

		/** @type {Handler} */
		function hide({ persisted }) {
			if (persisted) end()
			else client.disconnect()
		}
	}
}
