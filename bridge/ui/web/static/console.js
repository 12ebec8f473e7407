// Keeps the administrator's pages up to date while they are in view; without it they are as good, and reloaded by hand.
// Takes a person whose code was entered elsewhere to the result; without it that page reloads itself.
"use strict";

const PAUSE = 1000; // milliseconds between two looks, however much happens

const HOLD = 60000; // milliseconds that what has changed waits for a selection, which may be one by mistake

let source = null;
let timer = 0;
let selected = 0; // since when, as far as the looks have seen it

function view() {
  return document.getElementById("live");
}

// Where the page is to be had again: the answer to a button has an address of its own, which only the button can ask.
function here() {
  return view().dataset.page || location.pathname + location.search;
}

// What has the focus keeps it: the new page has the same controls, known by where they lead.
function name(element) {
  return element && (element.getAttribute("href") || element.getAttribute("formaction") || element.id || "");
}

// While nobody answers the page says that what stands on it may be wrong. The words are no text before that: a browser
// without scripts may not know `hidden`.
async function asked(page, options) {
  const answer = await fetch(page, options).catch(() => null);
  const gone = document.getElementById("gone");
  const words = answer ? "" : gone.dataset.words;
  if (gone.textContent !== words) gone.textContent = words; // said once, however often it is tried
  return answer;
}

async function look() {
  timer = 0;
  const answer = await asked(here(), { headers: { Accept: "text/html" }, redirect: "error" });
  if (!answer && !document.hidden) soon(); // the stream may have gone on, and say nothing for hours
  if (!answer || !(answer.ok || answer.status === 404)) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
  const old = view();
  if (!fresh) location.replace(here()); // the account is gone, or the session over: what still stands here is not true
  if (!fresh || fresh.innerHTML === old.innerHTML) return;
  const selection = getSelection();
  const isSelected = !selection.isCollapsed && selection.containsNode(old, true); // somebody is about to copy it
  selected = isSelected ? selected || Date.now() : 0;
  if (isSelected && Date.now() - selected < HOLD) return soon();
  const focused = old.contains(document.activeElement) ? name(document.activeElement) : "";
  old.replaceWith(document.adoptNode(fresh));
  if (!focused) return;
  const same = [...fresh.querySelectorAll("a, button")].find((element) => name(element) === focused);
  if (same) same.focus({ preventScroll: true });
}

function soon() {
  if (!timer) timer = setTimeout(look, PAUSE);
}

// A hidden tab has no stream: a browser keeps six connections to one host, and the pages need some themselves.
function follow() {
  if (document.hidden) {
    if (source) source.close();
    source = null;
  } else if (!source && view()) {
    source = new EventSource("/events");
    source.onmessage = soon;
    source.onopen = soon; // what happened while nobody listened
    source.onerror = soon; // we were refused, or the bridge has gone
  }
}

// Not by reloading: that would take a screen reader back to the top every few seconds.
async function ask() {
  const answer = await asked(location.href);
  if (!answer) return;
  if (answer.redirected || answer.status === 404) location.replace(answer.url); // 404: nobody waits for this code any more
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("left");
  const old = document.getElementById("left");
  if (fresh && fresh.textContent !== old.textContent) old.textContent = fresh.textContent;
}

const wait = document.getElementById("wait");
if (wait) setInterval(ask, Number(wait.dataset.seconds) * 1000);
document.addEventListener("visibilitychange", follow);
follow();
