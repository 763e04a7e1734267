// One map: its title, colour bar, canvases, scale bar and tooltip.
import { grouped, numberWords, roundLength } from "./maps_viewer_words.js"
import { SpotPicture, muteShades, shadesOf } from "./maps_viewer_paint.js"

const HALO = "rgba(255, 255, 255, 0.9)"
const INK = "#16262c"
const REGION_COLOURS = ["#c2185b", "#1f4fbf", "#a34a00", "#5b2a9d", "#00695c", "#37474f"]

export function make(kind, name, parent, words = "") {
  const element = document.createElement(kind)
  element.className = name
  element.textContent = words
  parent?.append(element)
  return element
}

let badges = 0

export class MapPanel {
  constructor(grid) {
    this.root = make("section", "panel", grid)
    const header = make("header", "", this.root)
    const name = make("div", "name", header)
    this.title = make("span", "title", name)
    this.badge = make("button", "trust", name)
    this.badge.type = "button"
    this.badgeTip = make("div", "trust-tip", name)
    this.badgeTip.id = `trust-tip-${++badges}`
    this.badgeTip.setAttribute("role", "tooltip")
    this.badge.setAttribute("aria-describedby", this.badgeTip.id)
    this.note = make("span", "note", name)
    const bar = make("div", "bar", header)
    this.ramp = make("div", "ramp", bar)
    this.unit = make("span", "unit", bar)
    this.key = make("span", "key", bar)
    this.ticks = ["low", "middle", "high"].map(place => make("span", `tick ${place}`, this.ramp))
    this.stage = make("div", "stage", this.root)
    this.canvas = make("canvas", "map", this.stage)
    this.canvas.setAttribute("role", "img")
    this.marks = make("canvas", "marks", this.stage)
    this.marks.setAttribute("aria-hidden", "true")
    this.scaleBar = make("div", "scale", this.stage)
    this.tip = make("div", "tip", this.stage)
    this.tip.hidden = true
    this.said = make("p", "said", this.stage)
    this.said.setAttribute("role", "status")
    this.said.hidden = true
    this.picture = new SpotPicture()
    this.panel = null // what is shown
    this.values = null
    this.shades = null
    this.muting = []
    this.failure = ""
  }

  // Show a panel with its values, or with none yet. Spots are greyed where one of the layers in
  // `muting` = [{values, above, words, unit}] is above its threshold.
  show(panel, values, muting = []) {
    this.panel = panel
    this.values = values
    this.muting = muting
    this.shades = values && shadesOf(values, panel.low, panel.high, panel.palette.length)
    const muted = values ? muteShades(this.shades, muting) : 0
    this.key.hidden = !muted
    this.key.textContent = `${grouped(String(muted))} greyed`
    this.key.title = muting.map(({ words, above, unit }) =>
      `${words} above ${numberWords(above, 1)} ${unit}`).join("; ")
    this.showBadge(panel.badge)
    const range = panel.high - panel.low
    const ends = values ? extent(values) : [panel.low, panel.high]
    this.title.textContent = this.title.title = panel.title
    this.note.textContent = this.note.title = panel.note
    this.unit.textContent = panel.unit
    const steps = panel.palette.length
    this.ramp.style.backgroundImage = `linear-gradient(to right, ${panel.palette
      .map((colour, i) => `${colour} ${(100 * i) / steps}% ${(100 * (i + 1)) / steps}%`)
      .join(", ")})`
    const words = [panel.low, (panel.low + panel.high) / 2, panel.high]
      .map(value => numberWords(value, range))
    this.ticks[0].textContent = (ends[0] < panel.low - range / 1000 ? "≤ " : "") + words[0]
    this.ticks[1].textContent = words[1]
    this.ticks[2].textContent = (ends[1] > panel.high + range / 1000 ? "≥ " : "") + words[2]
    this.canvas.setAttribute("aria-label", `Map of ${panel.title}: ${words[0]} to ${words[2]} ` +
      `${panel.unit}${panel.note ? `, ${panel.note}` : ""}` +
      (muted ? `, ${muted} of ${values.length} spots greyed` : ""))
  }

  // How far the map can be trusted: a word with its sign, the rest on hover or focus.
  showBadge(badge) {
    this.badge.hidden = this.badgeTip.hidden = !badge
    if (!badge) return
    this.badge.textContent = badge.words
    this.badge.dataset.level = badge.level
    this.badgeTip.replaceChildren()
    for (const line of badge.more) make("p", "", this.badgeTip, line)
  }

  // Why a spot is greyed, one line for each reason.
  reasons(index) {
    return this.muting.filter(({ values, above }) => values[index] > Math.fround(above))
      .map(({ values, above, words }) =>
        `greyed: ${words} ${numberWords(values[index], 1)}, above ${numberWords(above, 1)}`)
  }

  resize(width, height, ratio) {
    this.stage.style.width = `${width}px`
    this.stage.style.height = `${height}px`
    for (const canvas of [this.canvas, this.marks]) {
      const size = { width: Math.round(width * ratio), height: Math.round(height * ratio) }
      if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size)
    }
  }

  say(sentence) {
    this.said.hidden = !sentence
    if (this.said.textContent !== sentence) this.said.textContent = sentence
  }

  drawMap(backdrop, view, opacity) {
    const context = this.canvas.getContext("2d")
    context.clearRect(0, 0, view.width, view.height)
    if (backdrop) context.drawImage(backdrop, 0, 0)
    if (this.shades) this.picture.drawOn(context, view, opacity)
  }

  drawScaleBar(umPerCssPx, width) {
    const length_um = roundLength(Math.max(Math.min(width * 0.28, 180), 40) * umPerCssPx)
    const words = length_um >= 1000 ? `${length_um / 1000} mm` : `${+length_um.toPrecision(1)} µm`
    if (this.scaleBar.textContent !== words) this.scaleBar.textContent = words
    this.scaleBar.style.setProperty("--length", `${length_um / umPerCssPx}px`)
  }

  // Outlines of the regions, what is being drawn, and a ring around the spot under the pointer.
  drawMarks(view, ratio, { regions, drawing, spot, spots, radius }) {
    const context = this.marks.getContext("2d")
    context.clearRect(0, 0, view.width, view.height)
    context.lineJoin = "round"
    const place = ([x, y]) => [(x - view.x) * view.scale + view.width / 2,
      (y - view.y) * view.scale + view.height / 2]
    const line = (path, colour, width) => {
      context.strokeStyle = HALO
      context.lineWidth = (width + 2.5) * ratio
      context.stroke(path)
      context.strokeStyle = colour
      context.lineWidth = width * ratio
      context.stroke(path)
    }
    regions.forEach((region, i) => {
      const rings = (region.polygons ?? [region.points ?? []]).map(ring => ring.map(place))
      const chosen = (region.spots ?? []).filter(n => spots && n < spots.count)
        .map(n => place([spots.x[n], spots.y[n]]))
      const colour = region.colour ?? REGION_COLOURS[i % REGION_COLOURS.length]
      for (const ring of rings) line(outline(ring, true), colour, 2)
      if (chosen.length) line(circles(chosen, Math.max(radius, 3 * ratio)), colour, 1.5)
      const points = [...rings.flat(), ...chosen]
      if (points.length) this.writeName(context, region.name, points, colour, ratio)
    })
    if (drawing) {
      const path = outline(drawing.points.map(place), drawing.done || drawing.kind === "box")
      context.fillStyle = "rgba(255, 255, 255, 0.22)"
      context.fill(path)
      context.setLineDash(drawing.done ? [] : [6 * ratio, 4 * ratio])
      line(path, INK, 1.75)
      context.setLineDash([])
    }
    if (spot) {
      line(circles([place([spot.x, spot.y])], Math.max(radius, 3 * ratio) + 1.5 * ratio), INK, 1.75)
    }
  }

  writeName(context, name, points, colour, ratio) {
    const top = points.reduce((best, point) => (point[1] < best[1] ? point : best))
    context.font = `600 ${12 * ratio}px ${getComputedStyle(this.stage).fontFamily}`
    context.textAlign = "center"
    context.textBaseline = "bottom"
    context.lineWidth = 4 * ratio
    context.strokeStyle = HALO
    const half = context.measureText(name).width / 2 + 4 * ratio
    const x = Math.max(half, Math.min(this.marks.width - half, top[0]))
    const y = Math.max(18 * ratio, Math.min(this.marks.height - 4 * ratio, top[1] - 5 * ratio))
    if (top[0] < -half || top[0] > this.marks.width + half) return
    context.strokeText(name, x, y)
    context.fillStyle = colour
    context.fillText(name, x, y)
  }

  // Tell about a spot beside (x, y), css pixels; `more` is said under the value and its spread.
  tell(index, x, y, spread, more, radius) {
    this.tip.hidden = index < 0 || !this.values
    if (this.tip.hidden) return
    const value = this.values[index]
    const span = this.panel.high - this.panel.low
    this.tip.replaceChildren()
    const first = make("div", "", this.tip)
    make("b", "", first, Number.isNaN(value) ? "no value" : numberWords(value, span))
    if (!Number.isNaN(value + spread)) first.append(` ± ${numberWords(spread, span)}`)
    if (!Number.isNaN(value) && this.panel.unit) first.append(` ${this.panel.unit}`)
    for (const line of more) make("div", "more", this.tip, line)
    const [width, height] = [this.tip.offsetWidth, this.tip.offsetHeight]
    const gap = radius + 10
    const within = (at, size, whole) => Math.max(4, Math.min(whole - size - 4, at))
    const besides = [x + gap, x - gap - width]
      .find(left => left >= 4 && left + width <= this.stage.clientWidth - 4)
    const left = besides ?? within(x - width / 2, width, this.stage.clientWidth)
    const above = y - gap - height
    const top = besides !== undefined ? y - height / 2 : above >= 4 ? above : y + gap
    const fits = within(top, height, this.stage.clientHeight)
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(fits)}px)`
  }

  close() {
    this.root.remove()
  }
}

function outline(points, closed) {
  const path = new Path2D()
  points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)))
  if (closed) path.closePath()
  return path
}

function circles(centres, radius) {
  const path = new Path2D()
  for (const [x, y] of centres) {
    path.moveTo(x + radius, y)
    path.arc(x, y, radius, 0, 2 * Math.PI)
  }
  return path
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity]
  for (const value of values) {
    if (value < low) low = value
    if (value > high) high = value
  }
  return [low, high]
}
