// The H&E image: DZI tiles of the level that fits the zoom, coarser ones until those have arrived.
// Where there are none, pictures: {name: address, box: [left, top, right, bottom] in level-0 pixels,
// without it the whole slide}, the finest last.
// A view here is {x, y: centre in level-0 pixels, scale: canvas pixels per
// level-0 pixel, width, height: canvas pixels}.
import { source } from "./maps_viewer_data.js"

const MOST_TILES = 320
const MOST_REQUESTS = 6
const OVERVIEW_PX = 520

export class SlidePicture {
  constructor(base, slide, wake) {
    Object.assign(this, { base, slide, wake })
    this.tiles = new Map() // name -> {image, grey, failed}; the latest used last
    this.asked = 0
    this.wanted = []
    this.gone = false
    this.pictures = slide.pictures ?? (slide.thumbnail ? [{ name: slide.thumbnail }] : [])
    this.top = slide.tiles ? slide.levels - 1 : 0
    this.overview = 0 // the level that is always kept
    while (this.overview < this.top && this.sizeAt(this.overview + 1)[0] <= OVERVIEW_PX &&
      this.sizeAt(this.overview + 1)[1] <= OVERVIEW_PX) this.overview++
  }

  sizeAt(level) {
    const shrink = 2 ** (this.top - level)
    return [Math.ceil(this.slide.width_px / shrink), Math.ceil(this.slide.height_px / shrink)]
  }

  // [left, top, right, bottom] of a tile in level-0 pixels, with its overlap.
  boxOf({ level, column, row, box }) {
    const { slide } = this
    if (!slide.tiles) return box ?? [0, 0, slide.width_px, slide.height_px]
    const [width, height] = this.sizeAt(level)
    const shrink = 2 ** (this.top - level)
    const start = place => (place ? place * slide.tile_px - slide.overlap : 0) * shrink
    const end = (place, size) =>
      Math.min((place + 1) * slide.tile_px + slide.overlap, size) * shrink
    return [start(column), start(row), end(column, width), end(row, height)]
  }

  tilesIn(view, level) {
    if (!this.slide.tiles) return this.pictures.map(one => ({ level: 0, column: 0, row: 0, ...one }))
    const side = this.slide.tile_px * 2 ** (this.top - level)
    const [width, height] = this.sizeAt(level)
    const range = (centre, size, length) => {
      const half = size / 2 / view.scale
      const last = Math.ceil(length / this.slide.tile_px) - 1
      return [Math.max(0, Math.floor((centre - half) / side)),
        Math.min(last, Math.floor((centre + half) / side))]
    }
    const [left, right] = range(view.x, view.width, width)
    const [top, bottom] = range(view.y, view.height, height)
    const found = []
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) found.push(this.tile(level, column, row))
    }
    return found
  }

  tile(level, column, row) {
    return { level, column, row, name: `${level}/${column}_${row}` }
  }

  ready(tile) {
    const kept = this.tiles.get(tile.name)
    if (!kept?.image) return false
    this.tiles.delete(tile.name)
    this.tiles.set(tile.name, kept)
    return true
  }

  // Draw what is there; ask for what is missing.
  draw(context, view, look) {
    context.clearRect(0, 0, view.width, view.height)
    if (!this.slide.tiles && !this.pictures.length) return
    const fitting = Math.ceil(this.top + Math.log2(view.scale) - 0.35)
    const level = Math.max(this.overview, Math.min(this.top, fitting))
    const tiles = this.tilesIn(view, level)
    const [sharp, missing] = [[], []]
    for (const tile of tiles) (this.ready(tile) ? sharp : missing).push(tile)
    const meanwhile = new Map()
    for (const tile of missing) {
      for (let up = 1; tile.level - up >= 0 && this.slide.tiles; up++) {
        const parent = this.tile(tile.level - up, tile.column >> up, tile.row >> up)
        if (!this.ready(parent)) continue
        meanwhile.set(parent.name, parent)
        break
      }
      for (let part = 0; part < 4 && tile.level < this.top; part++) {
        const child = this.tile(tile.level + 1, tile.column * 2 + (part & 1),
          tile.row * 2 + (part >> 1))
        if (this.ready(child)) meanwhile.set(child.name, child)
      }
    }
    const coarseFirst = [...meanwhile.values()].sort((a, b) => a.level - b.level)
    for (const tile of [...coarseFirst, ...sharp]) this.drawTile(context, view, tile, look.grey)
    this.lighten(context, view, look.brightness)
    this.ask(view, level, missing)
  }

  drawTile(context, view, tile, grey) {
    const [left, top, right, bottom] = this.boxOf(tile)
    const kept = this.tiles.get(tile.name)
    const place = (at, centre, size) => (at - centre) * view.scale + size / 2
    const x = place(left, view.x, view.width)
    const y = place(top, view.y, view.height)
    context.drawImage(grey ? greyed(kept) : kept.image, x, y,
      (right - left) * view.scale, (bottom - top) * view.scale)
  }

  // 1 leaves the image as it is, 0 is black, 2 is white.
  lighten(context, view, brightness) {
    if (brightness === 1) return
    context.globalCompositeOperation = "source-atop"
    context.globalAlpha = Math.min(1, Math.abs(brightness - 1))
    context.fillStyle = brightness > 1 ? "#fff" : "#000"
    context.fillRect(0, 0, view.width, view.height)
    context.globalAlpha = 1
    context.globalCompositeOperation = "source-over"
  }

  ask(view, level, missing) {
    const far = tile => {
      const [left, top, right, bottom] = this.boxOf(tile)
      return Math.hypot((left + right) / 2 - view.x, (top + bottom) / 2 - view.y)
    }
    const coarse = [this.overview, level - 2]
      .filter(other => other >= this.overview && other < level)
      .flatMap(other => this.tilesIn(view, other))
    this.wanted = [...coarse, ...missing.sort((a, b) => far(a) - far(b))]
    this.pump()
  }

  pump() {
    while (this.asked < MOST_REQUESTS && this.wanted.length && !this.gone) {
      const tile = this.wanted.shift()
      if (!this.tiles.has(tile.name)) this.fetchTile(tile)
    }
  }

  async fetchTile(tile) {
    const kept = { image: null, grey: null, failed: false }
    this.tiles.set(tile.name, kept)
    this.asked++
    try {
      const address = this.slide.tiles ? `${this.base}/tiles/${tile.name}.jpeg` : tile.name
      const answer = await source(address)
      if (!answer.ok) throw new Error(`status ${answer.status}`)
      kept.image = await createImageBitmap(await answer.blob())
    } catch {
      kept.failed = true
      if (this.failed && this.slide.tiles && this.pictures.length) this.useThumbnail()
    }
    this.asked--
    if (this.gone) return kept.image?.close()
    this.forgetOld()
    this.wake()
    this.pump()
  }

  // Not one tile can be had (the slide's file has gone): show the picture that the result keeps.
  useThumbnail() {
    this.slide = { ...this.slide, tiles: false }
    this.top = this.overview = 0
    this.wanted = []
    this.tiles.clear()
  }

  forgetOld() {
    if (this.tiles.size <= MOST_TILES) return
    for (const [name, kept] of this.tiles) {
      if (this.tiles.size <= MOST_TILES) return
      if (Number.parseInt(name) <= this.overview || !kept.image) continue
      kept.image.close()
      this.tiles.delete(name)
    }
  }

  retry() {
    for (const [name, kept] of this.tiles) if (kept.failed) this.tiles.delete(name)
  }

  // Nothing of the image is there, and not for want of asking.
  get failed() {
    const all = [...this.tiles.values()]
    return all.some(kept => kept.failed) && !all.some(kept => kept.image)
  }

  close() {
    this.gone = true
    for (const kept of this.tiles.values()) kept.image?.close()
    this.tiles.clear()
  }
}

// The same tile without its colours, made once.
function greyed(kept) {
  if (kept.grey) return kept.grey
  const { width, height } = kept.image
  kept.grey = Object.assign(document.createElement("canvas"), { width, height })
  const context = kept.grey.getContext("2d")
  context.drawImage(kept.image, 0, 0)
  context.globalCompositeOperation = "saturation"
  context.fillStyle = "#808080"
  context.fillRect(0, 0, width, height)
  return kept.grey
}
