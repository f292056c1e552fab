// The two lists: rows, the active row and its twin, and the animated move from one order to the other.

import { byId, calm, element } from "./dom.js";

export const SHOWN_FIRST = 20;
const SIDES = ["before", "after"];
const MOVE_MS = 620;

let shown = [];
let onActive = () => {};
let onOpen = () => {};

export const listOf = (side) => byId(side);
export const rowOf = (side, id) => byId(`${side}-${id}`);
export const otherSide = (side) => (side === "before" ? "after" : "before");

/** Connects the lists once; `active(candidate, side)` follows the pointer and the keyboard. */
export function connect({ active, open }) {
  onActive = active;
  onOpen = open;
  for (const side of SIDES) {
    const list = listOf(side);
    const candidateOf = (event) => shown.find((one) => event.target.closest(".row")?.dataset.id === one.id);
    list.addEventListener("pointerover", (event) => {
      const candidate = event.pointerType === "mouse" && candidateOf(event);
      if (candidate) onActive(candidate, side);
    });
    list.addEventListener("focusin", (event) => {
      const candidate = candidateOf(event);
      if (!candidate) return;
      rove(side, candidate.id);
      onActive(candidate, side);
    });
    list.addEventListener("click", (event) => {
      const candidate = candidateOf(event);
      if (!candidate) return;
      rowOf(side, candidate.id)?.focus({ preventScroll: true });
      onOpen(candidate, side);
    });
  }
}

/** Fills both lists with the first `limit` candidates of each order. */
export function render(page, limit) {
  shown = page.candidates;
  const orders = { before: page.candidates, after: page.reranked.map((index) => page.candidates[index]) };
  for (const side of SIDES) {
    const rows = orders[side].slice(0, limit).map((candidate, position) => row(candidate, side, position, page));
    listOf(side).replaceChildren(...rows);
    rows[0]?.setAttribute("tabindex", "0");
  }
}

/** Lets the rows of the new order travel from where retrieval had them (FLIP: first, last, invert, play). */
export function playMove(from = new Map()) {
  const list = listOf("after");
  if (calm() || !list.firstElementChild || !list.firstElementChild.offsetHeight) return Promise.resolve();
  const height = list.firstElementChild.offsetHeight;
  const below = list.children.length + 1;
  const moves = [...list.children].map((node, position) => {
    const first = Math.min(from.get(node.dataset.id) ?? Number(node.dataset.retrievalRank), below);
    const shift = (first - position) * height;
    if (!shift) return null;
    for (const running of node.getAnimations()) running.cancel();
    node.style.zIndex = shift > 0 ? 1 : 0;
    const move = node.animate(
      [{ transform: `translateY(${shift}px)`, opacity: first === below ? 0 : 1 }, { transform: "none", opacity: 1 }],
      { duration: MOVE_MS + Math.min(position, 20) * 12, easing: "cubic-bezier(.2,.75,.15,1)" },
    );
    return move.finished.then(() => { node.style.zIndex = ""; }, () => {});
  });
  return Promise.all(moves);
}

/** Where each product stands in the new order now. */
export const positions = () => new Map([...listOf("after").children].map((node, index) => [node.dataset.id, index]));

/** Marks the active product in both lists. */
export function mark(id) {
  for (const node of document.querySelectorAll(".row.twin")) node.classList.remove("twin");
  for (const side of SIDES) {
    for (const node of listOf(side).querySelectorAll('[aria-selected="true"]')) node.setAttribute("aria-selected", "false");
    const node = id && rowOf(side, id);
    node?.classList.add("twin");
    node?.setAttribute("aria-selected", "true");
  }
}

/** Moves the focus by `step` rows in the list that has it. */
export function step(side, by) {
  const rows = [...listOf(side).children];
  const at = rows.indexOf(document.activeElement.closest?.(".row"));
  const next = rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + by))];
  next?.focus({ preventScroll: true });
  next?.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
}

function rove(side, id) {
  for (const node of listOf(side).children) node.tabIndex = node.dataset.id === id ? 0 : -1;
}

function row(candidate, side, position, page) {
  const degraded = Boolean(page.degraded);
  return element(
    "li",
    {
      class: "row", role: "option", tabindex: -1, id: `${side}-${candidate.id}`, colour: candidate.colour,
      "data-id": candidate.id, "data-retrieval-rank": candidate.retrieval_rank, "aria-selected": "false",
      "aria-label": spoken(candidate, side, position, degraded),
    },
    element("span", { class: "rank" }, String(position + 1)),
    element(
      "span", { class: "line" },
      element("span", { class: "title" }, candidate.title, candidate.size && element("span", {}, ` · ${candidate.size}`)),
      candidate.bought_next && element("span", { class: "truth" }, "✓ bought this week"),
      side === "after" && !degraded && movement(candidate),
    ),
    element(
      "span", { class: "line" },
      element("span", { class: "category" }, candidate.category),
      candidate.brand && element("span", { class: "badge" }, candidate.brand),
      candidate.promoted && element("span", { class: "badge" }, "promoted"),
      element("span", { class: "maker" }, candidate.maker ? `maker ${candidate.maker}, ` : "", `no. ${candidate.id}`),
      candidate.bought_before > 0 && element("span", { class: "habit" }, element("span", {}, "bought "), "before ", element("b", {}, `×${candidate.bought_before}`)),
    ),
  );
}

function movement(candidate) {
  const by = candidate.movement;
  if (!by) return element("span", { class: "move still" }, "–");
  return element("span", { class: `move ${by > 0 ? "up" : "down"}` }, by > 0 ? `▲ ${by}` : `▼ ${-by}`);
}

function spoken(candidate, side, position, degraded) {
  const parts = [`${position + 1}. ${candidate.title}`, candidate.size, candidate.category, candidate.brand && `${candidate.brand} brand`];
  if (side === "after" && !degraded && candidate.movement) {
    parts.push(candidate.movement > 0 ? `up ${candidate.movement}` : `down ${-candidate.movement}`);
  }
  if (candidate.bought_before) parts.push(`bought before, ${candidate.bought_before} times`);
  if (candidate.promoted) parts.push("promoted");
  if (candidate.bought_next) parts.push("bought this week");
  return parts.filter(Boolean).join(", ");
}
