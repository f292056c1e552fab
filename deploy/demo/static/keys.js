// The keyboard: one table from key to deed, off while something is typed or chosen.

import { byId } from "./dom.js";

/** Connects the keys; `deeds` maps a key to what it does. */
export function connect(deeds) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const at = event.target;
    if (at.matches?.("input, select, textarea")) return;
    if (event.key === "Enter" && !at.closest?.(".row")) return;
    const deed = deeds[event.key];
    if (!deed) return;
    event.preventDefault();
    deed(event);
  });
}
