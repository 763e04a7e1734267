// Spots as discs in a canvas of their own, a bit larger than the view.
// Discs are stamped into pixels, with smooth edges: many times as fast as paths where there is no
// graphics card to draw with. Very large ones, of which few are seen, are paths.
const MARGIN = 1.4 // the canvas is so many times as large as the view
const LARGEST_STAMP_PX = 48
const PARTS = 4 // a stamp for each quarter of a pixel that a disc's centre can be off

const NO_COLOUR = 255
const MUTED = 254 // a spot whose value is not to be trusted: grey, and the tissue shows through
const MUTED_COLOUR = "#c4c9cc"
const MUTED_COVER = 0.6

let pixels = null // shared by all panels: one is painted at a time

export class SpotPicture {
  constructor() {
    this.canvas = document.createElement("canvas")
    this.context = this.canvas.getContext("2d")
    this.view = null
    this.what = null
  }

  // `what` = {shades, colours, radius}; a view as in maps_viewer_slide.js.
  paint(spots, what, view) {
    const width = Math.ceil(view.width * MARGIN)
    const height = Math.ceil(view.height * MARGIN)
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height })
    } else {
      this.context.clearRect(0, 0, width, height)
    }
    this.view = { ...view, width, height }
    this.what = what
    const shift = { x: width / 2 - view.x * view.scale, y: height / 2 - view.y * view.scale }
    if (what.radius <= LARGEST_STAMP_PX) this.stamp(spots, what, shift)
    else this.fill(spots, what, shift)
  }

  stamp(spots, { shades, colours, radius }, shift) {
    const { width, height } = this.canvas
    if (pixels?.width !== width || pixels.height !== height) pixels = new ImageData(width, height)
    else pixels.data.fill(0)
    const painted = new Uint32Array(pixels.data.buffer)
    const inks = colours.map(inkOf)
    inks[MUTED] = inkOf(MUTED_COLOUR)
    const stamps = stampsOf(radius)
    const { scale } = this.view
    const reach = Math.ceil(radius)
    const side = 2 * reach + 1
    for (let i = 0; i < spots.count; i++) {
      if (shades[i] === NO_COLOUR) continue
      const x = spots.x[i] * scale + shift.x
      const y = spots.y[i] * scale + shift.y
      const left = Math.floor(x) - reach
      const top = Math.floor(y) - reach
      if (left <= -side || top <= -side || left >= width || top >= height) continue
      const part = Math.floor((y - Math.floor(y)) * PARTS) * PARTS +
        Math.floor((x - Math.floor(x)) * PARTS)
      const stamp = stamps[part]
      const ink = inks[shades[i]]
      const solid = shades[i] === MUTED ? MUTED_COVER : 1
      const [firstRow, lastRow] = [Math.max(0, -top), Math.min(side, height - top)]
      const [firstColumn, lastColumn] = [Math.max(0, -left), Math.min(side, width - left)]
      for (let row = firstRow; row < lastRow; row++) {
        let at = row * side + firstColumn
        let place = (top + row) * width + left + firstColumn
        for (let column = firstColumn; column < lastColumn; column++, place++) {
          const cover = solid === 1 ? stamp[at++] : (stamp[at++] * solid) | 0
          if (cover === 255) painted[place] = ink | 0xff000000
          else if (cover) painted[place] = over(ink, cover, painted[place])
        }
      }
    }
    this.context.putImageData(pixels, 0, 0)
  }

  fill(spots, { shades, colours, radius }, shift) {
    const { width, height } = this.canvas
    const { scale } = this.view
    const paths = []
    for (let i = 0; i < spots.count; i++) {
      if (shades[i] === NO_COLOUR) continue
      const x = spots.x[i] * scale + shift.x
      const y = spots.y[i] * scale + shift.y
      if (x < -radius || y < -radius || x > width + radius || y > height + radius) continue
      const path = (paths[shades[i]] ??= new Path2D())
      path.moveTo(x + radius, y)
      path.arc(x, y, radius, 0, 2 * Math.PI)
    }
    paths.forEach((path, shade) => {
      this.context.fillStyle = shade === MUTED ? MUTED_COLOUR : colours[shade]
      this.context.globalAlpha = shade === MUTED ? MUTED_COVER : 1
      this.context.fill(path)
    })
    this.context.globalAlpha = 1
  }

  // How much larger or smaller what was painted is now; 1 is sharp.
  stretch(view) {
    return view.scale / this.view.scale
  }

  covers(view) {
    const within = (is, size, was, mine) =>
      Math.abs(is - was) + size / view.scale / 2 <= mine / this.view.scale / 2
    return within(view.x, view.width, this.view.x, this.view.width) &&
      within(view.y, view.height, this.view.y, this.view.height)
  }

  drawOn(context, view, opacity) {
    if (!this.view) return
    const stretch = this.stretch(view)
    const place = (was, is, size, mine) => (was - is) * view.scale + size / 2 - (mine / 2) * stretch
    let x = place(this.view.x, view.x, view.width, this.view.width)
    let y = place(this.view.y, view.y, view.height, this.view.height)
    if (stretch === 1) [x, y] = [Math.round(x), Math.round(y)] // keeps the edges sharp
    context.globalAlpha = opacity
    context.drawImage(this.canvas, x, y, this.view.width * stretch, this.view.height * stretch)
    context.globalAlpha = 1
  }
}

function inkOf(colour) {
  const rgb = Number.parseInt(colour.slice(1), 16)
  return ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16) // the order of ImageData's bytes
}

// How much of each pixel a disc covers, 0…255, for the places its centre can have within a pixel.
let lastStamps = { radius: -1, stamps: [] }
function stampsOf(radius) {
  if (lastStamps.radius === radius) return lastStamps.stamps
  const reach = Math.ceil(radius)
  const side = 2 * reach + 1
  const stamps = []
  for (let part = 0; part < PARTS * PARTS; part++) {
    const offX = ((part % PARTS) + 0.5) / PARTS
    const offY = (Math.floor(part / PARTS) + 0.5) / PARTS
    const stamp = new Uint8Array(side * side)
    for (let at = 0; at < stamp.length; at++) {
      const away = Math.hypot((at % side) - reach + 0.5 - offX,
        Math.floor(at / side) - reach + 0.5 - offY)
      stamp[at] = Math.round(255 * Math.max(0, Math.min(1, radius + 0.5 - away)))
    }
    stamps.push(stamp)
  }
  lastStamps = { radius, stamps }
  return stamps
}

// Lay a colour that covers `cover` of 255 over a pixel (colours not multiplied by their cover).
function over(ink, cover, under) {
  const below = ((under >>> 24) * (255 - cover)) / 255
  if (!below) return ink | (cover << 24)
  const share = cover / (cover + below)
  const red = (under & 255) + ((ink & 255) - (under & 255)) * share + 0.5
  const underGreen = (under >> 8) & 255
  const green = underGreen + (((ink >> 8) & 255) - underGreen) * share + 0.5
  const underBlue = (under >> 16) & 255
  const blue = underBlue + (((ink >> 16) & 255) - underBlue) * share + 0.5
  return red | (green << 8) | (blue << 16) | ((cover + below + 0.5) << 24)
}

// Grey out spots with a value above a threshold; returns how many.
export function muteShades(shades, muting) {
  let muted = 0
  for (const { values, above } of muting) {
    const limit = Math.fround(above) // as the values are
    for (let i = 0; i < shades.length; i++) {
      if (values[i] > limit && shades[i] !== NO_COLOUR && shades[i] !== MUTED) {
        shades[i] = MUTED
        muted++
      }
    }
  }
  return muted
}

// Palette index of each value: below `low` the first colour, above `high` the last, NaN none.
export function shadesOf(values, low, high, colours) {
  const shades = new Uint8Array(values.length)
  const perUnit = colours / (high - low || 1)
  for (let i = 0; i < values.length; i++) {
    const place = (values[i] - low) * perUnit
    shades[i] = place >= 0 ? Math.min(place, colours - 1) : place < 0 ? 0 : NO_COLOUR
  }
  return shades
}
