// Gene maps over the H&E image: up to six panels that pan and zoom together, on canvases.
import { mutingOf, nearestSpot, spotsOf, valuesOf } from "./maps_viewer_data.js"
import {
  GAP_PX, HEADER_PX, allowedWidth, gridOf, viewAround, viewOfAddress,
} from "./maps_viewer_place.js"
import { SlidePicture } from "./maps_viewer_slide.js"
import { MapPanel, make } from "./maps_viewer_panel.js"
import { HoverFacts } from "./maps_viewer_hover.js"
import { Gestures } from "./maps_viewer_gestures.js"

const STILL_MS = 120
const TELL_MS = 300
const LEAST_RADIUS_PX = 1.5
const FRAME_BUDGET_MS = 24
const SLOW_MS = 500
const NO_PICTURE = "The H&E image could not be loaded; the spots are shown without it."

export class MapsViewer {
  constructor(parent) {
    this.root = make("div", "viewer", parent)
    Object.assign(this.root, { tabIndex: 0 })
    this.root.setAttribute("role", "group")
    this.grid = make("div", "grid", this.root)
    this.addTools()
    this.backdrop = document.createElement("canvas")
    this.facts = new HoverFacts(() => this.wake())
    this.panels = []
    this.drawing = null
    this.spot = -1
    this.movedAt = -STILL_MS
    this.gestures = new Gestures(this)
    this.root.addEventListener("keydown", event => {
      if (event.target === this.root || event.key === "Escape") this.gestures.key(event)
    })
    this.observer = new ResizeObserver(() => this.layOut())
    this.observer.observe(this.root)
    this.onBack = () => this.lookAt(viewOfAddress(location.search))
  }

  // Going back in the browser shows the view that the address then names.
  followAddress() {
    window.addEventListener("popstate", this.onBack)
  }

  addTools() {
    this.tools = make("div", "tools", this.root)
    const tool = (label, words, act) => {
      const button = make("button", "", this.tools, words)
      Object.assign(button, { type: "button", title: label })
      button.setAttribute("aria-label", label)
      button.addEventListener("click", act)
    }
    tool("Zoom in", "+", () => this.zoomAt(1.5))
    tool("Zoom out", "\u2212", () => this.zoomAt(1 / 1.5))
    tool("Show all spots", "\u2302", () => this.home())
    this.hint = make("div", "hint", this.root)
  }

  // ---- what Python sends ------------------------------------------------------------------------

  update(data, setStateValue) {
    const before = this.data
    this.data = data
    this.setStateValue = setStateValue
    if (before?.base !== data.base) this.open()
    this.facts.clear()
    if (!before || JSON.stringify(before.slide) !== JSON.stringify(data.slide) ||
      before.base !== data.base) {
      this.picture?.close()
      this.picture = new SlidePicture(data.base, data.slide, () => this.wake())
    }
    this.picture.retry()
    const drawnAnew = JSON.stringify(before?.regions) !== JSON.stringify(data.regions)
    if (before && (drawnAnew || before.mode !== data.mode)) this.gestures.cancel()
    this.root.dataset.mode = data.mode
    this.hint.textContent = data.mode === "pan" ? ""
      : `${data.mode === "box" ? "Drag a box over" : "Draw around"} the spots · Esc cancels`
    this.root.setAttribute("aria-label", `${data.panels.map(panel => panel.title).join("; ")}. ` +
      "Arrow keys move, plus and minus zoom, 0 shows all spots.")
    while (this.panels.length > data.panels.length) this.panels.pop().close()
    while (this.panels.length < data.panels.length) {
      const panel = new MapPanel(this.grid)
      panel.show(data.panels[this.panels.length], null)
      this.gestures.listen(panel.stage)
      this.panels.push(panel)
    }
    this.layOut()
    this.load()
  }

  open() {
    this.spots = null
    this.seen = this.data.view // later ones are echoes, and late on a busy machine
    this.spot = -1
    this.drawing = null
    for (const panel of this.panels) {
      Object.assign(panel, { values: null, shades: null })
      panel.picture.view = null
    }
  }

  async load() {
    const { data } = this
    const started = performance.now()
    const wanted = (this.wanted = {})
    clearTimeout(this.waiting)
    this.slow = false
    this.waiting = setTimeout(() => {
      this.slow = true
      this.wake()
    }, SLOW_MS)
    let spots
    try {
      spots = await spotsOf(data.base)
    } catch (error) {
      if (this.wanted !== wanted) return
      this.arrived()
      for (const panel of this.panels) panel.failure = error.message
      return
    }
    if (this.wanted !== wanted) return
    this.spots = spots
    this.wake()
    await Promise.all(data.panels.map(async (asked, i) => {
      const panel = this.panels[i]
      try {
        const [values, muting] = await Promise.all([
          valuesOf(data.base, asked, spots.count), mutingOf(data.base, asked, spots.count)])
        if (this.wanted !== wanted) return
        const changed = panel.values !== values ||
          JSON.stringify(panel.panel) !== JSON.stringify(asked)
        panel.failure = ""
        if (changed) panel.show(asked, values, muting)
      } catch (error) {
        if (this.wanted !== wanted) return
        panel.show(asked, null)
        panel.failure = error.message
      }
      this.wake()
    }))
    if (this.wanted !== wanted) return
    this.arrived()
    this.timing = { started, layers: data.panels.map(panel => panel.layer).join("|") }
  }

  arrived() {
    clearTimeout(this.waiting)
    this.slow = false
    this.wake()
  }

  // ---- where things are -------------------------------------------------------------------------

  layOut() {
    const width = this.root.clientWidth
    const count = this.panels.length
    if (!width || !count) return
    const { columns, rows, stageWidth, stageHeight } = gridOf(count, width, this.data.height_px)
    const ratio = window.devicePixelRatio || 1
    this.size = { width: stageWidth, height: stageHeight, ratio }
    this.grid.style.gridTemplateColumns = `repeat(${columns}, ${stageWidth}px)`
    this.root.style.height = `${rows * (stageHeight + HEADER_PX) + GAP_PX * (rows - 1)}px`
    for (const panel of this.panels) panel.resize(stageWidth, stageHeight, ratio)
    const place = { width: Math.round(stageWidth * ratio), height: Math.round(stageHeight * ratio) }
    Object.assign(this.backdrop, place)
    this.drawFrame()
  }

  homeView() {
    const { slide, spot_diameter_um } = this.data
    const whole = { left: 0, top: 0, right: slide.width_px, bottom: slide.height_px }
    const box = this.spots?.count ? this.spots : whole
    return viewAround(box, this.size, spot_diameter_um, slide.mpp)
  }

  shown() {
    return this.seen ?? this.homeView()
  }

  // The view in the pixels of a stage's canvas.
  pixelView() {
    const { x_um, y_um, width_um } = this.shown()
    const { mpp } = this.data.slide
    const { width, height } = this.backdrop
    return { x: x_um / mpp, y: y_um / mpp, scale: (width / width_um) * mpp, width, height }
  }

  radius(view) {
    const { slide, spot_diameter_um, look } = this.data
    const true_px = (spot_diameter_um / 2 / slide.mpp) * look.spot_size * view.scale
    return Math.max(LEAST_RADIUS_PX * this.size.ratio, true_px)
  }

  toSlide(x, y) {
    const { x_um, y_um, width_um } = this.shown()
    const { width, height } = this.size
    const perPx = width_um / width
    const { mpp } = this.data.slide
    return [(x_um + (x - width / 2) * perPx) / mpp, (y_um + (y - height / 2) * perPx) / mpp]
  }

  // ---- what gestures ask ------------------------------------------------------------------------

  mode() {
    return this.data.mode
  }

  moveTo(x_um, y_um, width_um) {
    const { slide } = this.data
    const within = (at, length_px) => Math.max(0, Math.min(length_px * slide.mpp, at))
    const centre = { x_um: within(x_um, slide.width_px), y_um: within(y_um, slide.height_px) }
    this.lookAt({ ...centre, width_um })
  }

  // null shows all spots.
  lookAt(view) {
    this.seen = view
    this.movedAt = performance.now()
    this.spot = -1
    clearTimeout(this.telling)
    this.telling = setTimeout(() => this.tellView(), TELL_MS)
    this.wake()
  }

  tellView() {
    this.setStateValue("view", { base: this.data.base, view: this.seen })
  }

  panBy(x, y) {
    const { x_um, y_um, width_um } = this.shown()
    const perPx = width_um / this.size.width
    this.moveTo(x_um - x * perPx, y_um - y * perPx, width_um)
  }

  // The place under (x, y) stays where it is.
  zoomAt(factor, x = this.size.width / 2, y = this.size.height / 2) {
    const { x_um, y_um, width_um } = this.shown()
    const { slide } = this.data
    const { width, height } = this.size
    const next = allowedWidth(width_um / factor, width_um, this.size, slide)
    const perPx = (width_um - next) / width
    this.moveTo(x_um + (x - width / 2) * perPx, y_um + (y - height / 2) * perPx, next)
  }

  home() {
    this.lookAt(null)
  }

  hover(place) {
    const view = this.spots && this.pixelView()
    let found = -1
    if (place && view) {
      const [x, y] = this.toSlide(place.x, place.y)
      const reach = Math.max(this.radius(view), 5 * this.size.ratio) / view.scale
      found = nearestSpot(this.spots, x, y, reach)
    }
    if (found === this.spot && place?.stage === this.over) return
    this.spot = found
    this.over = place?.stage
    this.wake()
  }

  draw(kind, points, done) {
    this.drawing = { kind, points, done }
    if (done) {
      const turn = (this.turn = Math.max(this.turn ?? 0, this.data.turn) + 1)
      this.setStateValue("drawn", { base: this.data.base, kind, points, turn })
    }
    this.wake()
  }

  stopDrawing() {
    this.drawing = null
    this.wake()
  }

  // ---- drawing ----------------------------------------------------------------------------------

  wake() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null
      this.drawFrame()
    })
  }

  drawFrame() {
    if (!this.size || !this.picture || !this.root.isConnected) return
    const view = this.pixelView()
    const still = performance.now() - this.movedAt >= STILL_MS
    const left = this.paintSpots(view, still)
    this.picture.draw(this.backdrop.getContext("2d"), view, this.data.look)
    const radius = this.radius(view)
    const spot = this.spot >= 0 && this.spots
      ? { x: this.spots.x[this.spot], y: this.spots.y[this.spot] } : null
    const marks = { regions: this.data.regions, drawing: this.drawing, spot, spots: this.spots,
      radius }
    const umPerCssPx = this.shown().width_um / this.size.width
    const tellOfPicture = this.picture.failed && this.panels.find(panel => !panel.failure)
    for (const panel of this.panels) {
      panel.drawMap(this.backdrop, view, this.data.look.opacity)
      panel.drawMarks(view, this.size.ratio, marks)
      panel.drawScaleBar(umPerCssPx, this.size.width)
      this.tellSpot(panel, spot, view, radius)
      panel.say(panel.failure || (this.slow && "Loading the values …") ||
        (panel === tellOfPicture && NO_PICTURE) || "")
    }
    this.root.dataset.frames = 1 + Number(this.root.dataset.frames ?? 0)
    if (left) this.wake()
    else if (!still) {
      clearTimeout(this.sharpening)
      this.sharpening = setTimeout(() => this.wake(), STILL_MS)
    } else if (this.timing && this.spots) this.tellPainted()
  }

  // Paint the spots of panels that changed or were left behind; says whether some still wait.
  paintSpots(view, still) {
    if (!this.spots) return false
    const start = performance.now()
    const radius = this.radius(view)
    let late = false
    for (const panel of this.panels) {
      if (!panel.shades) continue
      const { picture } = panel
      const stretch = picture.view ? picture.stretch(view) : 0
      const outdated = picture.what?.shades !== panel.shades ||
        (stretch === 1 && picture.what.radius !== radius)
      const blurred = still ? stretch !== 1 : stretch < 0.6 || stretch > 1.7
      if (!outdated && !blurred && picture.covers(view)) continue
      if (late) return true
      const what = { shades: panel.shades, colours: panel.panel.palette, radius }
      picture.paint(this.spots, what, view)
      late = performance.now() - start > FRAME_BUDGET_MS
    }
    return false
  }

  tellSpot(panel, spot, view, radius) {
    if (!spot) return panel.tell(-1)
    const { mpp } = this.data.slide
    const { ratio } = this.size
    const x = ((spot.x - view.x) * view.scale + view.width / 2) / ratio
    const y = ((spot.y - view.y) * view.scale + view.height / 2) / ratio
    const { base } = this.data
    const spread = this.facts.spread(base, panel.panel, this.spot, this.spots.count)
    const more = panel.stage !== this.over ? []
      : this.facts.lines(base, panel.panel, this.spot, this.spots, mpp)
    panel.tell(this.spot, x, y, spread, [...panel.reasons(this.spot), ...more], radius / ratio)
  }

  // For tests and measurements: which layers are on the screen, and how long that took.
  tellPainted() {
    const { started, layers } = this.timing
    this.timing = null
    requestAnimationFrame(() => {
      this.root.dataset.paintedLayer = layers
      this.root.dataset.paintedMs = (performance.now() - started).toFixed(1)
    })
  }

  close() {
    this.observer.disconnect()
    window.removeEventListener("popstate", this.onBack)
    this.wanted = null
    for (const timer of [this.telling, this.sharpening, this.waiting]) clearTimeout(timer)
    cancelAnimationFrame(this.frame)
    this.picture?.close()
    this.root.remove()
  }
}

const viewers = new WeakMap()

export default function ({ data, parentElement, setStateValue }) {
  let viewer = viewers.get(parentElement)
  if (!viewer) {
    viewers.set(parentElement, (viewer = new MapsViewer(parentElement)))
    viewer.followAddress()
  }
  viewer.update(data, setStateValue)
  return () => {
    viewers.delete(parentElement)
    viewer.close()
  }
}
