// What the maps are drawn from: spots and values as the server's float32 arrays, each fetched once.
const MOST_LAYERS = 60
const MOST_SPOT_SETS = 3
const heldSpots = new Map()
const heldValues = new Map()
const heldIds = new Map()

// Who answers for an address: the server, or a page that carries its data (app/maps/share.py).
export let source = address => fetch(address)

export function answerFrom(another) {
  source = another
}

async function fetchAnswer(address) {
  let answer
  try {
    answer = await source(address)
  } catch {
    throw new Error("The server did not answer, so this map cannot be drawn; try again soon.")
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => null)
    const reason = `The server gave no map (status ${answer.status}); choose another or reload.`
    throw new Error(typeof told?.error === "string" ? told.error : reason)
  }
  return answer
}

// Little endian, as every browser's machine.
const fetchFloats = async address =>
  new Float32Array(await (await fetchAnswer(address)).arrayBuffer())

// A store keeps promises, the latest used last; what failed is forgotten and so tried again.
function keep(store, key, most, load) {
  const promise = store.get(key) ?? load()
  store.delete(key)
  store.set(key, promise)
  promise.catch(() => store.get(key) === promise && store.delete(key))
  while (store.size > most) store.delete(store.keys().next().value)
  return promise
}

export const spotsOf = base =>
  keep(heldSpots, base, MOST_SPOT_SETS, async () =>
    indexSpots(await fetchFloats(`${base}/map/spots`)))

export const valuesOf = (base, { layer, version }, count) =>
  keep(heldValues, `${base} ${layer} ${version}`, MOST_LAYERS, async () => {
    const values = await fetchFloats(`${base}/map/values?layer=${encodeURIComponent(layer)}`)
    if (values.length !== count) {
      throw new Error(
        `The server gave ${values.length} values for ${count} spots; reload the page.`)
    }
    return values
  })

// The spots' own names, in the order of the spots.
export const idsOf = (base, count) =>
  keep(heldIds, base, MOST_SPOT_SETS, async () => {
    const ids = await (await fetchAnswer(`${base}/map/ids`)).json()
    if (ids.length !== count) throw new Error("These are the names of other spots.")
    return ids
  })

// Spots and a grid over them: `order` lists spot numbers cell by cell, `first` where a cell starts.
function indexSpots(pairs) {
  const count = pairs.length >> 1
  const x = new Float32Array(count)
  const y = new Float32Array(count)
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity]
  for (let i = 0; i < count; i++) {
    x[i] = pairs[2 * i]
    y[i] = pairs[2 * i + 1]
    if (x[i] < left) left = x[i]
    if (x[i] > right) right = x[i]
    if (y[i] < top) top = y[i]
    if (y[i] > bottom) bottom = y[i]
  }
  if (!count) [left, top, right, bottom] = [0, 0, 0, 0]
  const area = Math.max(right - left, 1) * Math.max(bottom - top, 1)
  const cell = Math.sqrt((2 * area) / Math.max(count, 1))
  const columns = Math.floor((right - left) / cell) + 1
  const rows = Math.floor((bottom - top) / cell) + 1
  const cellOf = i => Math.floor((y[i] - top) / cell) * columns + Math.floor((x[i] - left) / cell)
  const first = new Uint32Array(columns * rows + 1)
  for (let i = 0; i < count; i++) first[cellOf(i) + 1]++
  for (let c = 0; c < columns * rows; c++) first[c + 1] += first[c]
  const next = first.slice()
  const order = new Uint32Array(count)
  for (let i = 0; i < count; i++) order[next[cellOf(i)]++] = i
  return { count, x, y, left, top, right, bottom, cell, columns, rows, first, order }
}

// The number of the spot nearest to a level-0 pixel and at most `reach` away, or -1.
export function nearestSpot(spots, atX, atY, reach) {
  const clamp = (value, most) => Math.max(0, Math.min(most, Math.floor(value)))
  const fromColumn = clamp((atX - reach - spots.left) / spots.cell, spots.columns - 1)
  const toColumn = clamp((atX + reach - spots.left) / spots.cell, spots.columns - 1)
  const fromRow = clamp((atY - reach - spots.top) / spots.cell, spots.rows - 1)
  const toRow = clamp((atY + reach - spots.top) / spots.cell, spots.rows - 1)
  let found = -1
  let least = reach * reach
  for (let row = fromRow; row <= toRow; row++) {
    const start = spots.first[row * spots.columns + fromColumn]
    const end = spots.first[row * spots.columns + toColumn + 1]
    for (let place = start; place < end; place++) {
      const i = spots.order[place]
      const away = (spots.x[i] - atX) ** 2 + (spots.y[i] - atY) ** 2
      if (away <= least) [found, least] = [i, away]
    }
  }
  return found
}

// The layers that grey out spots of a panel, with their values.
export const mutingOf = (base, asked, count) =>
  Promise.all((asked.mutes ?? []).map(async mute =>
    ({ ...mute, values: await valuesOf(base, { layer: mute.layer, version: "" }, count) })))
