// Start the viewer on the data that the page carries; behind the parts of maps_viewer.js.
const { view, carried } = JSON.parse(document.getElementById("data").textContent)

function bytesOf(text) {
  const letters = atob(text)
  const bytes = new Uint8Array(letters.length)
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i)
  return bytes
}

source = async address => {
  const [place, query] = address.replace(/^\//, "").split("?")
  const name = query ? `${place}?${new URLSearchParams(query).get("layer")}` : place
  const found = Object.hasOwn(carried, name)
  return found ? new Response(bytesOf(carried[name])) : new Response("", { status: 404 })
}
new MapsViewer(document.getElementById("maps")).update(view, () => {})
