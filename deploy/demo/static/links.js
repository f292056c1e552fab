// The lines between the two lists: one for each product bought this week, one for the active product.

import { byId } from "./dom.js";
import { rowOf } from "./columns.js";

const SVG = "http://www.w3.org/2000/svg";

/** Draws the lines; call it again whenever rows move or the window changes. */
export function draw(candidates, activeId) {
  const canvas = byId("links");
  const frame = canvas.getBoundingClientRect();
  canvas.replaceChildren();
  if (!frame.width) return;
  for (const candidate of candidates) {
    const isActive = candidate.id === activeId;
    if (isActive || candidate.bought_next) canvas.append(...line(candidate, frame, isActive));
  }
}

function line(candidate, frame, isActive) {
  const left = edge("before", candidate.id, frame);
  const right = edge("after", candidate.id, frame);
  if (!left.known && !right.known) return [];
  const bend = (right.x - left.x) * 0.5;
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", `M${left.x} ${left.y}C${left.x + bend} ${left.y} ${right.x - bend} ${right.y} ${right.x} ${right.y}`);
  path.setAttribute("class", isActive ? "active" : "truth-link");
  if (!left.known || !right.known) path.setAttribute("stroke-dasharray", "3 4");
  return [path];
}

/** Where a row meets the gutter; a row that is not shown lies below its list. */
function edge(side, id, frame) {
  const column = byId(side).getBoundingClientRect();
  const row = rowOf(side, id)?.getBoundingClientRect();
  return {
    known: Boolean(row),
    x: (side === "before" ? column.right : column.left) - frame.left,
    y: (row ? row.top + row.height / 2 : column.bottom + 12) - frame.top,
  };
}
