// The browser's share of the chaos: clients that talk, and books of what they received.

const BURST = 5
const OPEN_CALLS = 4
const SIZES = [
	[40, 0.8],
	[2_000, 0.95],
	[20_000, 0.992],
	[100_000, 1],
]

/** So many characters, others for each number. */
const text = (number, size) => {
	const part = `${number} is the number; `
	return part.repeat(Math.floor(size / part.length) + 1).slice(0, size)
}

/** Random numbers that a seed repeats (mulberry32). */
const chance = (seed) => () => {
	seed = (seed + 0x6d2b79f5) | 0
	let t = Math.imul(seed ^ (seed >>> 15), seed | 1)
	t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
	return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
}

/** What a client received: the numbers of messages and of calls, by talker. */
class Book {
	messages = {}
	runs = {}
	faults = []

	last(talker) {
		return this.messages[talker]?.length ?? 0
	}

	message([talker, number, padding]) {
		;(this.messages[talker] ??= []).push(number)
		if (padding !== text(number, padding.length))
			this.faults.push(`message ${number} of ${talker} is another one`)
	}

	work([talker, number, before, padding]) {
		;(this.runs[talker] ??= []).push(number)
		if (this.last(talker) < before) this.faults.push(`call ${number} of ${talker} overtook`)
		return [talker, number, padding]
	}
}

/** Sends numbered messages and calls, until it is told to stop. */
class Talker {
	messages = 0
	calls = 0
	#open = []

	constructor(name, client, seed) {
		this.name = name
		this.client = client
		this.random = chance(seed)
		this.done = this.talk()
	}

	async talk() {
		while (!stopping) {
			for (let left = Math.floor(this.random() * (BURST + 1)); left > 0; left--) {
				this.client.send("message", [this.name, this.messages, this.text(this.messages)])
				this.messages++
			}
			this.#open.push(this.call())
			while (this.#open.length > OPEN_CALLS) await this.#open.shift()
		}
		await Promise.all(this.#open)
	}

	async call() {
		const number = this.calls++
		const padding = this.text(number)
		const expected = JSON.stringify([this.name, number, padding])
		const answer = await this.client.call("work", [this.name, number, this.messages, padding])
		if (JSON.stringify(answer) !== expected) throw new Error(`answer to another call: ${number}`)
	}

	text(number) {
		const drawn = this.random()
		return text(number, SIZES.find(([, share]) => drawn <= share)[0])
	}
}

let stopping = false
const talkers = []

export const clients = []
export const books = []

/** Connects so many clients. */
export async function connect(count, url, options) {
	for (let number = 0; number < count; number++) {
		const client = make(url, options)
		const book = new Book()
		const handler = (payload) => book.message(payload)
		// Async ones are no different, as long as they wait for nothing.
		client.channel.on("message", number % 2 ? async (payload) => handler(payload) : handler)
		client.register("work", (payload) => book.work(payload))
		client.challenge(async (quest) => quest)
		await client.connect(async () => `client ${number}`)
		clients.push(client)
		books.push(book)
	}
}

/** Has so many talkers begin for each client. */
export function talk(each, seed) {
	clients.forEach((client, number) => {
		for (let k = 0; k < each; k++)
			talkers.push(new Talker(`up ${number}.${k}`, client, seed + talkers.length))
	})
}

/** Raises what went wrong with a talker. */
export const check = () => Promise.race([...talkers.map(({ done }) => done), null])

/** How many messages of a talker every client has. */
export const least = (talker) => Math.min(...books.map((book) => book.last(talker)))

/** Has the talkers stop; what they were, and how much they said. */
export async function stop() {
	stopping = true
	await Promise.all(talkers.map(({ done }) => done))
	return talkers.map(({ name, messages, calls }) => [name, messages, calls])
}
