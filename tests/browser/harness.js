// What the tests find in the page: the module, and a record of what its clients said.

import * as wse from "../ws/wse.js"

/** @type {any} */
const page = window

page.wse = wse
page.log = []
page.tasks = []

/** Begins a task, and notes when it has ended. */
page.begin = (work) => {
	const task = { promise: work(), done: false }
	const end = () => (task.done = true)
	task.promise.then(end, end)
	return page.tasks.push(task) - 1
}

/** Makes a client that writes down what it hears. */
page.make = (url, options) => {
	const client = new wse.WseClient(url, options)
	for (const [name, signal] of Object.entries(client.when))
		signal((...values) => page.log.push([name, ...values.map(page.plain)]))
	client.when.error.off(console.error)
	page.client = client
	return client
}

/** What WebDriver can carry: errors become objects, circles get lost. */
page.plain = (value) => {
	if (value instanceof Error) {
		const { name, message, code, details } = value
		value = { name, message, code, details }
	}
	try {
		return JSON.parse(JSON.stringify(value ?? null))
	} catch {
		return String(value)
	}
}
