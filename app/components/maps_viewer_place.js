// Where panels lie on the page, and which part of the slide fits into one.
// A view is {x_um, y_um: its centre, width_um}, the same for all panels.
export const GAP_PX = 14
export const HEADER_PX = 56
const NARROW_PX = 700
const NARROWEST_PAIR_PX = 420
const LEAST_STAGE_PX = 200
const LARGEST_PIXEL_PX = 12 // css pixels that one of the slide can become

export function gridOf(count, width, height) {
  let columns = count > 4 ? 3 : count > 1 ? 2 : 1
  if (width < NARROW_PX) columns = count > 2 && width >= NARROWEST_PAIR_PX ? 2 : 1
  const rows = Math.ceil(count / columns)
  const stageWidth = Math.floor((width - GAP_PX * (columns - 1)) / columns)
  const stageHeight = Math.floor((height - GAP_PX * (rows - 1)) / rows) - HEADER_PX
  return { columns, rows, stageWidth, stageHeight: Math.max(LEAST_STAGE_PX, stageHeight) }
}

// The view that shows a box, in level-0 pixels, with a margin.
export function viewAround({ left, top, right, bottom }, size, spot_diameter_um, mpp) {
  const margin = spot_diameter_um / mpp + 0.04 * Math.max(right - left, bottom - top)
  const scale = Math.min(size.width / (right - left + 2 * margin),
    size.height / (bottom - top + 2 * margin))
  return { x_um: ((left + right) / 2) * mpp, y_um: ((top + bottom) / 2) * mpp,
    width_um: (size.width / scale) * mpp }
}

// The nearest width that can be zoomed to: at most about twice the slide, at least some pixels. A
// view that is beyond that already can stay as it is.
export function allowedWidth(wanted_um, now_um, { width, height }, slide) {
  const most = 2 * Math.max(slide.width_px, (slide.height_px * width) / height) * slide.mpp
  const least = (width / LARGEST_PIXEL_PX) * slide.mpp
  return Math.max(Math.min(least, now_um), Math.min(Math.max(most, now_um), wanted_um))
}

// The view that an address names as `view=x,y,width`, or null.
export function viewOfAddress(query) {
  const numbers = (new URLSearchParams(query).get("view") ?? "").split(",")
    .map(part => part.trim() ? Number(part) : NaN)
  const [x_um, y_um, width_um] = numbers
  return numbers.length === 3 && numbers.every(Number.isFinite) && width_um > 0
    ? { x_um, y_um, width_um } : null
}
