// The page: what is asked for lives in the address, every change asks the server and draws again.

import { get } from "./api.js";
import * as columns from "./columns.js";
import { byId, element, plural } from "./dom.js";
import { showFigures, showNotice } from "./figures.js";
import * as keys from "./keys.js";
import * as links from "./links.js";
import * as search from "./search.js";
import { openSheet, showNothing, showWhy } from "./why.js";

const SURFACES = ["search", "home", "discovery", "promotion", "category"];
const DEFAULT_QUERY = "yogurt";

const asked = { shopper: "", surface: "search", q: "", category: "", place: "" };
const shop = { shoppers: [], categories: [], now: 0 };
let page = null;
let limit = columns.SHOWN_FIRST;
let active = null;
let side = "after";
let pending = null;

async function start() {
  connectControls();
  applyTheme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  try {
    Object.assign(shop, await get("/api/shoppers"));
  } catch (error) {
    showNotice(error.message);
    return;
  }
  byId("report").hidden = !shop.has_report;
  byId("category").replaceChildren(...shop.categories.map(({ id, title }) => element("option", { value: id }, title)));
  const given = new URLSearchParams(location.search);
  for (const name of Object.keys(asked)) asked[name] = given.get(name) ?? asked[name];
  if (!SURFACES.includes(asked.surface)) asked.surface = "search";
  asked.shopper ||= shop.shoppers[0]?.id ?? "";
  asked.category ||= shop.categories[0]?.id ?? "";
  if (asked.surface === "search") asked.q ||= DEFAULT_QUERY;
  await load();
}

async function load(change = {}) {
  const sameCandidates = page && "shopper" in change && Object.keys(change).length === 1;
  const from = sameCandidates ? columns.positions() : new Map();
  Object.assign(asked, change);
  if ("shopper" in change && !("place" in change)) asked.place = "";
  showAsked();
  pending?.abort();
  pending = new AbortController();
  byId("columns").setAttribute("aria-busy", "true");
  try {
    const { shopper, surface, q, category, place } = asked;
    const needsQuery = surface === "search" || surface === "discovery";
    page = await get("/api/page", { shopper, surface, place, q: needsQuery ? q : "", category: surface === "category" ? category : "" }, pending.signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    showEmpty(error.message);
    return;
  }
  if (!page.candidates.length) {
    showEmpty(page.nothing);
    return;
  }
  limit = columns.SHOWN_FIRST;
  showPage(from);
}

function showPage(from) {
  byId("columns").setAttribute("aria-busy", "false");
  showProfile(page.page.shopper);
  showFigures(page);
  const words = page.degraded && `Retrieval order is shown on both sides: ${page.degraded.reason.replaceAll("_", " ")}. ${page.degraded.detail}`;
  showNotice(words || (page.approximate ? "No product holds these words; close spellings are shown." : ""));
  columns.render(page, limit);
  showMore();
  const top = page.candidates[page.reranked[0]];
  active = null;
  activate(top, "after");
  byId("status").textContent = `${plural(page.candidates.length, "product")}, reranked in ${Math.round(page.latency_ms.total)} milliseconds`;
  play(from);
}

async function play(from) {
  byId("links").replaceChildren();
  await columns.playMove(from);
  drawLinks();
}

function showEmpty(text) {
  page = null;
  byId("columns").setAttribute("aria-busy", "false");
  showNotice(text);
  byId("status").textContent = text;
  for (const id of ["before", "after", "figures", "legend", "links"]) byId(id).replaceChildren();
  byId("more").hidden = true;
  const known = shop.shoppers.find((one) => one.id === asked.shopper);
  if (known) showProfile(known);
  showNothing();
}

function showAsked() {
  const query = new URLSearchParams();
  query.set("shopper", asked.shopper);
  query.set("surface", asked.surface);
  if (asked.q && (asked.surface === "search" || asked.surface === "discovery")) query.set("q", asked.q);
  if (asked.surface === "category") query.set("category", asked.category);
  if (asked.place) query.set("place", asked.place);
  history.replaceState(null, "", `?${query}`);
  byId("query").value = asked.surface === "search" || asked.surface === "discovery" ? asked.q : "";
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    const isChosen = tab.dataset.surface === asked.surface;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
    if (isChosen) {
      byId("columns").setAttribute("aria-labelledby", tab.id);
      byId("tabs").scrollLeft = tab.offsetLeft - byId("tabs").offsetLeft - 24;
    }
  }
  byId("category").hidden = asked.surface !== "category";
  byId("category").value = asked.category;
  showShoppers();
}

function showShoppers() {
  const list = byId("shopper");
  const isListed = shop.shoppers.some((one) => one.id === asked.shopper);
  const listed = isListed ? shop.shoppers : [{ id: asked.shopper }, ...shop.shoppers];
  if (list.options.length !== listed.length) {
    list.replaceChildren(...listed.map(({ id, baskets }) => element("option", { value: id }, `No. ${id}${baskets ? ` · ${plural(baskets, "basket")}` : ""}`)));
  }
  list.value = asked.shopper;
}

function showProfile(shopper) {
  const top = shopper.top_categories.map(({ title, share }) => `${title} ${Math.round(100 * share)}\u00a0%`).join(", ");
  const day = new Date(shop.now * 1000).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  byId("profile").replaceChildren(
    element("b", {}, `${plural(shopper.baskets, "basket")}, ${plural(shopper.events, "product")}`), ` by ${day}`,
    element("br"), top || "nothing bought yet", asked.place || shopper.place ? `, store\u00a0${asked.place || shopper.place}` : "",
  );
}

function showMore() {
  const more = byId("more");
  const hidden = page.candidates.length - columns.SHOWN_FIRST;
  more.hidden = hidden <= 0;
  more.textContent = limit > columns.SHOWN_FIRST ? `Show the first ${columns.SHOWN_FIRST}` : `Show all ${page.candidates.length}`;
}

function activate(candidate, onSide) {
  side = onSide;
  if (!candidate || candidate.id === active) return;
  active = candidate.id;
  columns.mark(active);
  showWhy(page, candidate, closeSheet);
  drawLinks();
}

const drawLinks = () => page && links.draw(page.candidates, active);

function open() {
  openSheet(true);
  if (matchMedia("(max-width: 1180px)").matches) byId("why").focus();
}

function closeSheet() {
  openSheet(false);
  if (active) columns.rowOf(side, active)?.focus({ preventScroll: true });
}

function showSide(wanted) {
  byId("columns").dataset.side = wanted;
  for (const button of document.querySelectorAll(".flip button")) button.setAttribute("aria-pressed", String(button.dataset.side === wanted));
  side = wanted;
}

function stepSlot(by) {
  const at = SURFACES.indexOf(asked.surface);
  const surface = SURFACES[(at + by + SURFACES.length) % SURFACES.length];
  const hadFocus = document.activeElement?.matches?.('[role="tab"]');
  chooseSlot(surface);
  if (hadFocus) byId(`tab-${surface}`).focus();
}

function chooseSlot(surface) {
  if (surface === "search" && !asked.q) return load({ surface, q: DEFAULT_QUERY });
  // A slot starts without a query; words typed there narrow it to new products.
  return load(surface === "discovery" ? { surface, q: "" } : { surface });
}

async function surprise() {
  try {
    const next = await get("/api/surprise", { shopper: asked.shopper });
    await load({ shopper: next.shopper, place: next.place, q: next.q, surface: "search" });
  } catch (error) {
    showNotice(error.message);
  }
}

function twin() {
  const other = columns.otherSide(side);
  if (byId("columns").dataset.side === side) showSide(other);
  const node = active && columns.rowOf(other, active);
  node?.focus({ preventScroll: true });
  node?.scrollIntoView({ block: "nearest" });
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function connectControls() {
  columns.connect({ active: activate, open: (candidate, onSide) => { activate(candidate, onSide); open(); } });
  search.connect({
    shopper: () => asked.shopper,
    submit: (q) => load({ q, surface: asked.surface === "discovery" ? "discovery" : "search" }),
  });
  byId("shopper").addEventListener("change", (event) => load({ shopper: event.target.value }));
  byId("category").addEventListener("change", (event) => load({ category: event.target.value }));
  byId("tabs").addEventListener("click", (event) => {
    const surface = event.target.closest('[role="tab"]')?.dataset.surface;
    if (surface) chooseSlot(surface);
  });
  byId("surprise").addEventListener("click", surprise);
  byId("more").addEventListener("click", () => {
    limit = limit > columns.SHOWN_FIRST ? columns.SHOWN_FIRST : Infinity;
    columns.render(page, limit);
    columns.mark(active);
    showMore();
    drawLinks();
  });
  document.querySelector(".flip").addEventListener("click", (event) => {
    const wanted = event.target.closest("button")?.dataset.side;
    if (wanted) showSide(wanted);
  });
  byId("theme").addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", theme);
    applyTheme(theme);
  });
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  new ResizeObserver(drawLinks).observe(byId("columns"));
  keys.connect({
    "/": () => byId("query").select(),
    j: () => columns.step(side, 1),
    k: () => columns.step(side, -1),
    ArrowDown: () => columns.step(side, 1),
    ArrowUp: () => columns.step(side, -1),
    ArrowLeft: () => stepSlot(-1),
    ArrowRight: () => stepSlot(1),
    Enter: open,
    t: twin,
    s: surprise,
    r: () => page && play(new Map()),
    "?": () => byId("help").showModal(),
    Escape: closeSheet,
  });
}

start();
