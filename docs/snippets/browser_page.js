import { WseClient } from "/ws/wse.js"

const form = document.querySelector("form")
const client = new WseClient("/ws", { reconnect: true })

function write(text) {
  const item = document.createElement("li")
  item.textContent = text
  document.querySelector("ul").append(item)
}

// Handlers are bound once; they outlive every link.
client.channel.on("said", write)
client.when.updated((status) => (document.querySelector("#status").value = status))
client.when.ready(async () => {
  const users = await client.call("users")
  document.querySelector("#users").value = users.join(", ")
})

form.addEventListener("submit", (event) => {
  event.preventDefault()
  client.send("say", form.elements.text.value)
  form.reset()
})

const name = new URLSearchParams(location.search).get("name") ?? "guest"
client.connect(name).then(write, (error) => write(`no connection: ${error.code}`))
