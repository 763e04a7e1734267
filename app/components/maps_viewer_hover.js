// Facts about the spot under the pointer besides the map's own value; fetched at first use.
import { grouped, micronWords, numberWords } from "./maps_viewer_words.js"
import { idsOf, valuesOf } from "./maps_viewer_data.js"

export class HoverFacts {
  constructor(wake) {
    this.wake = wake
    this.arrived = new Map() // name -> what came; undefined until then, and where it failed
  }

  // Forget all (the browser's own stores have the latest still); what failed is tried again.
  clear() {
    this.arrived.clear()
  }

  ask(name, load) {
    if (!this.arrived.has(name)) {
      this.arrived.set(name, undefined)
      load().then(found => {
        this.arrived.set(name, found)
        this.wake()
      }, () => {})
    }
    return this.arrived.get(name)
  }

  value(base, layer, spot, count) {
    const load = () => valuesOf(base, { layer, version: "" }, count)
    return this.ask(`${base} ${layer}`, load)?.[spot] ?? NaN
  }

  spread(base, { spread }, spot, count) {
    return spread ? this.value(base, spread, spot, count) : NaN
  }

  // The lines under the value: those details whose numbers are there, place, and name of the spot.
  lines(base, { details }, spot, { x, y, count }, mpp) {
    const lines = []
    for (const { words, layers, between } of details) {
      const numbers = layers.map(layer => this.value(base, layer, spot, count))
      if (numbers.some(Number.isNaN)) continue
      const told = numbers.map(number => numberWords(number, 1))
      lines.push(`${words} ${told.join(between)}`.trim())
    }
    lines.push(`x ${micronWords(x[spot] * mpp)}, y ${micronWords(y[spot] * mpp)} µm`)
    const id = this.ask(`${base} ids`, () => idsOf(base, count))?.[spot]
    const place = `${grouped(String(spot + 1))} of ${grouped(String(count))}`
    lines.push(id === undefined ? `spot ${place}` : `spot ${id} (${place})`)
    return lines
  }
}
