// Sends a file straight to the server's disk (PUT), with progress; Python hears of the end alone.
export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const input = parentElement.querySelector("input")
  const bar = parentElement.querySelector("progress")
  const words = parentElement.querySelector("output")
  const stop = parentElement.querySelector("button")
  input.accept = data.accept
  parentElement.querySelector("label").firstChild.textContent = data.label

  const show = (text, fraction) => {
    words.textContent = text
    bar.hidden = stop.hidden = fraction === null
    bar.value = fraction ?? 0
    input.disabled = fraction !== null
  }
  const size = bytes =>
    bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(0)} MB`

  input.onchange = () => {
    const file = input.files[0]
    if (!file) return
    const started = Date.now()
    const request = new XMLHttpRequest()
    request.open("PUT", `${data.address}?name=${encodeURIComponent(file.name)}`)
    request.upload.onprogress = event => {
      const left = ((Date.now() - started) / 1000) * (event.total / event.loaded - 1)
      const time = left < 90 ? `${Math.ceil(left)} s` : `${Math.round(left / 60)} min`
      show(`${size(event.loaded)} of ${size(event.total)}, about ${time} left`,
        event.loaded / event.total)
    }
    request.onload = () => {
      let answer = {}
      try {
        answer = JSON.parse(request.responseText)
      } catch {
        // a proxy's page, no answer of ours
      }
      input.value = ""
      if (request.status === 201) {
        show("Uploaded; checking the image …", null)
        setTriggerValue("uploaded", { upload_id: answer.upload_id, name: file.name })
      } else {
        show(answer.error || `The server refused the file (${request.status}).`, null)
      }
    }
    request.onerror = () => show("The connection broke off; upload the file again.", null)
    request.onabort = () => {
      input.value = ""
      show("Stopped.", null)
    }
    stop.onclick = () => request.abort()
    show("Starting …", 0)
    request.send(file)
  }
}
