// Start the viewer on the data that the page carries.
import { MapsViewer } from "./maps_viewer.js"
import { answerFrom } from "./maps_viewer_data.js"

const { view, carried } = JSON.parse(document.getElementById("data").textContent)

function bytesOf(text) {
  const letters = atob(text)
  const bytes = new Uint8Array(letters.length)
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i)
  return bytes
}

answerFrom(async address => {
  const [place, query] = address.replace(/^\//, "").split("?")
  const name = query ? `${place}?${new URLSearchParams(query).get("layer")}` : place
  const found = Object.hasOwn(carried, name)
  return found ? new Response(bytesOf(carried[name])) : new Response("", { status: 404 })
})
new MapsViewer(document.getElementById("maps")).update(view, () => {})
