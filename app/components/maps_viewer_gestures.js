// Mouse, touch and keys: what they ask of the viewer.
// The viewer gives: mode(), zoomAt(factor, x, y, stage), panBy(x, y), home(), hover(place or null),
// draw(kind, points, done), stopDrawing(), toSlide(x, y). Places are css pixels within a stage.
const MOST_POINTS = 2000
const STEP_PX = 60

export class Gestures {
  constructor(viewer) {
    this.viewer = viewer
    this.pointers = new Map()
    this.points = null // of the lasso or box being drawn, in level-0 pixels
  }

  listen(stage) {
    const place = event => {
      const box = stage.getBoundingClientRect()
      return { x: event.clientX - box.left, y: event.clientY - box.top, stage }
    }
    stage.addEventListener("wheel", event => {
      event.preventDefault()
      const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1
      const speed = event.ctrlKey ? 0.01 : 0.0016 // a pinch on a touchpad comes as ctrl + wheel
      const { x, y } = place(event)
      const step = Math.max(-1, Math.min(1, event.deltaY * lines * speed))
      this.viewer.zoomAt(Math.exp(-step), x, y)
    }, { passive: false })
    stage.addEventListener("pointerdown", event => this.down(event, place(event)))
    stage.addEventListener("pointermove", event => this.move(event, place(event)))
    for (const name of ["pointerup", "pointercancel"]) {
      stage.addEventListener(name, event => this.up(event))
    }
    stage.addEventListener("pointerleave", event => {
      if (event.pointerType !== "touch") this.viewer.hover(null) // a finger leaves after each tap
    })
    stage.addEventListener("dblclick", () => {
      if (this.viewer.mode() === "pan") this.viewer.home()
    })
  }

  down(event, place) {
    if (event.button !== 0 && event.button !== 1) return
    if (event.button === 1) event.preventDefault()
    place.stage.setPointerCapture(event.pointerId)
    this.pointers.set(event.pointerId, place)
    const drawing = event.button === 0 && this.viewer.mode() !== "pan"
    if (this.pointers.size > 1) this.cancel()
    else if (drawing) this.points = [this.viewer.toSlide(place.x, place.y)]
    this.viewer.hover(null)
  }

  move(event, place) {
    const before = this.pointers.get(event.pointerId)
    if (!before) return this.pointers.size ? undefined : this.viewer.hover(place)
    if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1]
      const apart = at => Math.max(Math.hypot(at.x - other.x, at.y - other.y), 10)
      const middle = at => [(at.x + other.x) / 2, (at.y + other.y) / 2]
      const [x, y] = middle(place)
      this.viewer.panBy(x - middle(before)[0], y - middle(before)[1])
      this.viewer.zoomAt(apart(place) / apart(before), x, y)
    } else if (this.points) {
      if (Math.hypot(place.x - before.x, place.y - before.y) < 2) return
      this.extend(this.viewer.toSlide(place.x, place.y))
    } else {
      this.viewer.panBy(place.x - before.x, place.y - before.y)
      place.stage.classList.add("held")
    }
    this.pointers.set(event.pointerId, place)
  }

  extend(point) {
    const kind = this.viewer.mode()
    if (kind === "box") this.points = boxBetween(this.points[0], point)
    else this.points.push(point)
    if (this.points.length >= MOST_POINTS) this.points = this.points.filter((_, i) => i % 2 === 0)
    this.viewer.draw(kind, this.points, false)
  }

  up(event) {
    const place = this.pointers.get(event.pointerId)
    this.pointers.delete(event.pointerId)
    const moved = place?.stage.classList.contains("held")
    place?.stage.classList.remove("held")
    if (!this.points) {
      if (place && !moved && event.pointerType === "touch") this.viewer.hover(place)
      return
    }
    const points = this.points
    this.points = null
    if (points.length < 3 || event.type === "pointercancel") this.viewer.stopDrawing()
    else this.viewer.draw(this.viewer.mode(), points, true)
  }

  cancel() {
    this.points = null
    this.viewer.stopDrawing()
  }

  key(event) {
    const steps = { ArrowLeft: [STEP_PX, 0], ArrowRight: [-STEP_PX, 0], ArrowUp: [0, STEP_PX],
      ArrowDown: [0, -STEP_PX] }
    if (event.ctrlKey || event.metaKey || event.altKey) return
    if (event.key in steps) this.viewer.panBy(...steps[event.key])
    else if (event.key === "+" || event.key === "=") this.viewer.zoomAt(1.5)
    else if (event.key === "-") this.viewer.zoomAt(1 / 1.5)
    else if (event.key === "0") this.viewer.home()
    else if (event.key === "Escape") this.cancel()
    else return
    event.preventDefault()
  }
}

// The corners of a box; the first one stays where the drag began.
function boxBetween([left, top], [right, bottom]) {
  return [[left, top], [right, top], [right, bottom], [left, bottom]]
}
