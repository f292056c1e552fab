// The strip of figures above the lists, the legend, and the notice of a page that was not scored.

import { byId, element, plural, swatch } from "./dom.js";

const STAGES = [["retrieval", "retrieval"], ["network", "network"], ["scoring", "scoring with reasons"]];
const ms = (value) => (value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en"));

export function showFigures(page) {
  byId("figures").replaceChildren(quality(page), moved(page), latency(page), bundle(page));
  byId("legend").replaceChildren(
    ...page.categories.map(({ category, colour, count }) => element("li", {}, swatch(colour), element("b", {}, category), String(count))),
  );
}

export function showNotice(text) {
  const notice = byId("notice");
  notice.hidden = !text;
  notice.textContent = text ?? "";
}

function figure(label, value, note) {
  return element("dl", { class: "figure" }, element("dt", {}, label), element("dd", { class: "value" }, value), element("dd", { class: "note" }, note));
}

function quality({ ndcg }) {
  if (!ndcg) return figure("NDCG@10, this page", element("s", {}, "not known"), "the shopper bought none of these in the next 7 days");
  const gain = ndcg.after - ndcg.before;
  const tone = gain > 0.0005 ? "up" : gain < -0.0005 ? "down" : "";
  return figure(
    "NDCG@10, this page",
    [element("s", {}, ndcg.before.toFixed(2)), element("s", { "aria-label": "to" }, "→"), element("span", { class: tone }, ndcg.after.toFixed(2))],
    `${plural(ndcg.bought, "product")} here bought in the next 7 days`,
  );
}

function moved(page) {
  const newcomers = page.reranked.slice(0, 10).filter((index) => page.candidates[index].retrieval_rank >= 10).length;
  return figure("New in the top 10", [String(newcomers), element("s", {}, `of ${Math.min(10, page.candidates.length)}`)], `${plural(page.candidates.length, "candidate")} on the page`);
}

function latency(page) {
  const times = page.latency_ms;
  const bar = element("div", { class: "bar", "aria-hidden": "true" });
  for (const [stage] of STAGES) {
    const part = element("i", { class: stage });
    part.style.flexGrow = Math.max(times[stage], 0.01);
    bar.append(part);
  }
  return element(
    "div", { class: "figure time" },
    element("p", { class: "label" }, "Time for this page"),
    element("p", { class: "value" }, ms(times.total), element("s", {}, "ms")),
    bar,
    element("ul", { class: "parts" }, STAGES.map(([stage, name]) => element("li", { class: stage }, `${name} ${ms(times[stage])} ms`))),
  );
}

function bundle({ bundle_id: id, degraded }) {
  const value = id ? element("code", { title: id }, id.slice(0, 8)) : element("s", {}, "none");
  return figure("Bundle", value, degraded ? "could not score this page" : "scored this page");
}
