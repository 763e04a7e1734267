// Tells Python which part of the map is seen, so that the next map can show the same part.
// (A chart whose figure changes is made anew by Streamlit, which loses Plotly's own zoom.)
const kept = new WeakMap()

export default function (component) {
  const { data, parentElement, setStateValue } = component
  const state = kept.get(parentElement) ?? { plot: null, timer: null, doubleClick_ms: 0 }
  Object.assign(state, { data, setStateValue })
  if (kept.has(parentElement)) return state.stop

  const tell = box => state.setStateValue("seen", { view: state.data.view, box })
  const attach = () => {
    const plot = document.querySelector(`.st-key-${state.data.chart} .js-plotly-plot`)
    if (!plot?.on || plot === state.plot) return
    state.plot = plot
    plot.dataset.watched = 1 // from now on a zoom is heard of
    plot.on("plotly_relayout", change => {
      if (!Object.keys(change).some(name => name.includes("axis"))) return
      if (Date.now() - state.doubleClick_ms < 1000) return // the zoom that Plotly makes of it
      clearTimeout(state.timer)
      state.timer = setTimeout(() => {
        const { xaxis, yaxis } = plot.layout
        tell([xaxis.range[0], yaxis.range[1], xaxis.range[1], yaxis.range[0]])
      }, 300)
    })
    plot.on("plotly_doubleclick", () => {
      state.doubleClick_ms = Date.now()
      clearTimeout(state.timer)
      tell(null)
    })
  }
  const watch = setInterval(attach, 300)
  state.stop = () => {
    clearInterval(watch)
    clearTimeout(state.timer)
    kept.delete(parentElement)
  }
  kept.set(parentElement, state)
  return state.stop
}
