// Numbers and lengths as the maps write them; app/maps/picture_words.py has the same rules, and a
// test compares them.
const narrowSpace = "\u202f"

export function grouped(digits) {
  return digits.replace(/\B(?=(\d{3})+(?!\d))/g, narrowSpace)
}

// A number with as many decimals as the range it lies in asks for.
export function numberWords(value, span) {
  const decimals = Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(span || 1))))
  const [whole, part] = Math.abs(value).toFixed(Math.min(decimals, span >= 1000 ? 0 : 6)).split(".")
  const minus = value < 0 && (Number(whole) || Number(part)) ? "\u2212" : ""
  return minus + grouped(whole) + (part ? `.${part}` : "")
}

export const micronWords = um => numberWords(um, 1000)

// The largest of 1, 2, 5 × 10^n µm that is at most `most_um` long.
export function roundLength(most_um) {
  const base = 10 ** Math.floor(Math.log10(most_um))
  return Math.max(...[1, 2, 5].map(step => step * base)
    .filter(length => length <= most_um * (1 + 1e-9)))
}
