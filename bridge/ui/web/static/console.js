// Keeps the administrator's pages up to date while they are in view; without it people reload them by hand.
// Takes a person whose device code was entered elsewhere to the result; without it that page reloads itself.
"use strict";

const PAUSE = 1000; // milliseconds between two updates, however much happens

const HOLD = 60000; // milliseconds for which a selection, perhaps an accidental one, holds up an update

let source = null;
let timer = 0;
let selected = 0; // when an update first found a selection; 0 for none

function view() {
  return document.getElementById("live");
}

// Where to fetch the page again: the answer to a button has a URL of its own, which only the button can request.
function here() {
  return view().dataset.page || location.pathname + location.search;
}

// By this the focus is restored: the new page has the same controls, identified by where they lead.
function name(element) {
  return element && (element.getAttribute("href") || element.getAttribute("formaction") || element.id || "");
}

// While nobody answers, the page says that its content may be outdated. Until then the words are an attribute and no
// text, because a browser without scripts may not know `hidden`.
async function asked(page, options) {
  const answer = await fetch(page, options).catch(() => null);
  const gone = document.getElementById("gone");
  const words = answer ? "" : gone.dataset.words;
  if (gone.textContent !== words) gone.textContent = words; // announced once, however often we try
  return answer;
}

async function look() {
  timer = 0;
  const answer = await asked(here(), { headers: { Accept: "text/html" }, redirect: "error" });
  if (!answer && !document.hidden) soon(); // the stream may still be open, and send nothing for hours
  if (!answer || !(answer.ok || answer.status === 404)) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
  const old = view();
  if (!fresh) location.replace(here()); // the account is gone, or the session over: the content is no longer true
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

// A hidden tab has no stream: a browser opens at most six connections to a host, and the pages need some themselves.
function follow() {
  if (document.hidden) {
    if (source) source.close();
    source = null;
  } else if (!source && view()) {
    source = new EventSource("/events");
    source.onmessage = soon;
    source.onopen = soon; // something may have changed before the stream was open
    source.onerror = soon; // we were refused, or the bridge has gone
  }
}

// Fetches instead of reloading, which would take a screen reader back to the top every few seconds.
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
