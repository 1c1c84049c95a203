"use strict";
const $ = (id) => document.getElementById(id);
const FATES = {
  live: "running", warmup: "warm-up", finished: "finished", stopped: "stopped below the bar",
  cancelled: "cancelled", truncated: "cut off", failed: "failed",
};
// of the families that the bundled model was trained on, and solved with every seed that was tried
const EXAMPLES = [
  "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20.",
  "Find the remainder when 5^41 is divided by 17.",
  "Let F_1 = 33, F_2 = 21 and F_{n+2} = F_{n+1} + F_n mod 43. Find F_26.",
  "Find the greatest common divisor of 252 and 180.",
  "Find the sum of the digits of 914*2^16.",
];
// answers that have a colour and dashes of their own
const TOLD_APART = 5;
// answers that the votes list; the rest are counted
const LISTED = 10;
const DASHES = [[], [7, 3], [2, 3], [8, 3, 2, 3], [12, 4]];
const count = (n) => Math.round(n).toLocaleString("en-US");
const percent = (share) => (100 * share).toFixed(0) + " %";

let run = null;
let abort = null;
let drawing = false;

function fate(trace) {
  if (trace.finish === null) return "live";
  if (trace.finish === "stop") return trace.warmup ? "warmup" : "finished";
  return { low_confidence: "stopped", cancelled: "cancelled", length: "truncated", loop: "truncated" }[trace.finish] || "failed";
}

function fresh() {
  return { traces: new Map(), budget: 0, bar: null, window: null, ballots: [], generated: 0, ended: 0, live: 0, leading: null, full: null, done: null, slots: 0 };
}

function trace(id) {
  let found = run.traces.get(id);
  if (!found) {
    found = { id, warmup: false, finish: null, tokens: 0, answer: null, points: [] };
    run.traces.set(id, found);
  }
  return found;
}

function headers() {
  const all = { "content-type": "application/json" };
  const key = $("key").value;
  if (key) all.authorization = "Bearer " + key;
  return all;
}

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return "the server answered " + response.status;
  }
}

async function models() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (!response.ok) {
    if (response.status !== 401) complain(await refusal(response));
    $("model").textContent = response.status === 401 ? "needs an API key" : "";
    return;
  }
  const names = (await response.json()).data.map((m) => m.id);
  $("model").textContent = names[0];
  $("examples").hidden = names[0] !== "bundled";
  const select = $("strategy");
  while (select.length > 1) select.remove(1);
  for (const name of names.slice(1)) {
    const strategy = name.split("@").pop();
    select.add(new Option(strategy, strategy));
  }
}

async function solve() {
  const request = { messages: [{ role: "user", content: $("problem").value }], stream: true, progress: "traces" };
  if ($("strategy").value) request.strategy = $("strategy").value;
  for (const name of ["traces", "slots", "seed"]) {
    if ($(name).value !== "") request[name] = Number($(name).value);
  }
  complain("");
  run = fresh();
  abort = new AbortController();
  $("board").hidden = false;
  $("text").hidden = true;
  $("solution").textContent = "";
  $("stop").hidden = false;
  $("go").disabled = true;
  redraw();
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST", headers: headers(), body: JSON.stringify(request), signal: abort.signal,
    });
    if (!response.ok) {
      complain(await refusal(response));
      return;
    }
    await read(response.body.getReader());
    if (!run.done) complain("the stream ended before the answer");
  } catch (error) {
    complain(error.name === "AbortError" ? "stopped: its traces are gone" : String(error.message || error));
  } finally {
    for (const t of run.traces.values()) if (t.finish === null) t.finish = "cancelled";
    $("stop").hidden = true;
    $("go").disabled = false;
    redraw();
  }
}

async function read(reader) {
  const decoder = new TextDecoder();
  let left = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (left + decoder.decode(value, { stream: true })).split("\n\n");
    left = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") take(JSON.parse(part.slice(6)));
    }
    redraw();
  }
}

function take(chunk) {
  if (chunk.error) throw new Error(chunk.error.message);
  for (const choice of chunk.choices) {
    const { reasoning_content: thought, content } = choice.delta || {};
    if (thought || content) $("text").hidden = false;
    if (thought) $("solution").textContent += thought;
    if (content) {
      if (!run.said && $("solution").textContent) $("solution").textContent += "\n\n";
      run.said = true;
      $("solution").textContent += content;
    }
  }
  const tts = chunk.tts;
  if (!tts) return;
  switch (tts.event) {
    case "started":
      Object.assign(run, { budget: tts.budget, slots: tts.slots, strategy: tts.strategy });
      break;
    case "progress":
      Object.assign(run, { bar: tts.threshold, generated: tts.generated, leading: tts.leading, live: tts.live });
      break;
    case "traces":
      run.window = tts.window;
      for (const news of tts.traces) {
        const t = trace(news.trace);
        t.warmup = news.warmup;
        t.points.push(...news.points);
        if (news.points.length) t.tokens = news.points[news.points.length - 1][0];
      }
      if (tts.ballots) run.ballots = tts.ballots;
      break;
    case "ended": {
      const t = trace(tts.trace);
      Object.assign(t, { finish: tts.finish, tokens: tts.tokens, answer: tts.answer });
      run.ended += 1;
      break;
    }
    case "notice":
      complain(tts.text);
      break;
    case "decided":
      break;
    default:
      run.done = tts;
      // the server's own model says so of what it was not made for
      run.strange = tts.warnings.find((w) => w.includes("has learnt"));
      if (run.strange) complain(run.strange);
      run.bar = tts.threshold;
      run.window = tts.window || run.window;
      run.ballots = tts.ballots;
      run.generated = tts.tokens.generated;
      // what was missed on the way
      for (const last of chunk.tts_traces[0]) Object.assign(trace(last.trace), { finish: last.finish, tokens: last.tokens, answer: last.answer });
      run.ended = run.traces.size;
      $("text").hidden = false;
  }
}

function redraw() {
  if (drawing || !run) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    cards();
    votes();
    plot();
    strips();
  });
}

function cards() {
  const done = run.done;
  const leading = done ? done.answer : run.leading && run.leading.answer;
  $("answer").textContent = leading === null || leading === undefined ? "–" : leading;
  $("answer").title = leading || "";
  const winner = done && done.winner;
  $("answer-what").textContent = done
    ? done.answer === null ? "no trace had an answer" : "the answer" + (winner ? ", from trace " + winner.trace : "") + " (" + done.strategy + ", " + done.seconds.toFixed(1) + " s)"
    : run.leading ? "leading with " + percent(run.leading.share) + " of the vote" : "no answer yet";
  document.querySelector(".lead").classList.toggle("done", Boolean(done && done.answer !== null && !run.strange));
  $("ended").textContent = count(run.ended) + " of " + count(run.budget);
  const live = [...run.traces.values()].filter((t) => t.finish === null).length;
  $("ended-what").textContent = "traces ended" + (done ? "" : ", " + count(live) + " running");
  $("tokens").textContent = count(run.generated);
  const whole = [...run.traces.values()].filter((t) => t.finish === "stop").map((t) => t.tokens);
  const full = whole.length ? (whole.reduce((a, b) => a + b, 0) / whole.length) * run.budget : null;
  const saved = full === null ? null : Math.max(0, full - run.generated);
  $("saved").textContent = saved === null || (!done && !run.bar) ? "–" : count(saved) + " (" + percent(saved / full).replace(" ", "\u00a0") + ")";
  $("saved-what").textContent = "tokens saved, estimated" + (done ? "" : ", so far");
}

function votes() {
  const sum = run.ballots.reduce((s, b) => s + b.weight, 0);
  const shown = run.ballots.slice(0, LISTED);
  $("votes").replaceChildren(...shown.map((ballot) => {
    const item = document.createElement("li");
    const fill = document.createElement("i");
    fill.style.width = 100 * ballot.weight / (sum || 1) + "%";
    const name = document.createElement("span");
    name.textContent = ballot.answer;
    name.title = ballot.answer;
    const weight = document.createElement("span");
    weight.textContent = percent(ballot.weight / (sum || 1)) + " · " + count(ballot.traces);
    item.append(fill, name, weight);
    return item;
  }));
  const rest = run.ballots.slice(shown.length);
  if (rest.length) {
    const item = document.createElement("li");
    item.className = "rest";
    item.textContent = count(rest.length) + " more answers, together " + percent(rest.reduce((s, b) => s + b.weight, 0) / (sum || 1));
    $("votes").append(item);
  }
  const done = run.done;
  $("vote-what").textContent = !run.ballots.length ? "Nobody has voted yet."
    : "Share of the weight, and traces." + (done ? " The pool that decided: " + done.pool + "." : "");
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

function canvas(id) {
  const element = $(id);
  const { clientWidth: width, clientHeight: height } = element;
  const scale = window.devicePixelRatio || 1;
  if (element.width !== Math.round(width * scale) || element.height !== Math.round(height * scale)) {
    element.width = Math.round(width * scale);
    element.height = Math.round(height * scale);
  }
  const g = element.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, width, height);
  g.font = "12px ui-sans-serif, system-ui, sans-serif";
  return { g, width, height };
}

// What a trace is coloured by: how it ended, or what it answered.
function kinds() {
  if ($("by").value === "fate") {
    return {
      order: ["cancelled", "truncated", "failed", "finished", "warmup", "live", "stopped"],
      of: fate, colour, dash: () => [], name: (kind) => FATES[kind],
    };
  }
  const known = run.ballots.slice(0, TOLD_APART).map((b) => b.answer);
  const place = new Map(known.map((answer, i) => [answer, i]));
  const others = [...run.traces.values()].some((t) => t.answer !== null && !place.has(t.answer));
  return {
    // the leader is drawn last, over the others
    order: ["none", ...(others ? ["other"] : []), ...known.map((_, i) => i).reverse()],
    of: (t) => (t.answer === null ? "none" : place.has(t.answer) ? place.get(t.answer) : "other"),
    colour: (kind) => colour(kind === "none" ? "cancelled" : kind === "other" ? "other" : "a" + kind),
    dash: (kind) => DASHES[kind] || [],
    name: (kind) => (kind === "none" ? "no answer" : kind === "other" ? "other answers" : "answer " + known[kind]),
  };
}

function step(span, wanted) {
  const rough = span / wanted;
  const power = Math.pow(10, Math.floor(Math.log10(rough)));
  return [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
}

function plot() {
  const { g, width, height } = canvas("plot");
  const all = [...run.traces.values()].filter((t) => t.points.length);
  const left = 34, right = 10, top = 8, bottom = 26;
  let most = 64, low = Infinity, high = -Infinity;
  for (const t of all) {
    most = Math.max(most, t.points[t.points.length - 1][0]);
    for (const p of t.points) {
      // the first few tokens of a mean say little and would set the scale
      if (p[0] * 4 < (run.window || 1) && t.points.length > 1) continue;
      if (p[1] < low) low = p[1];
      if (p[1] > high) high = p[1];
    }
  }
  if (run.bar !== null) {
    low = Math.min(low, run.bar);
    high = Math.max(high, run.bar);
  }
  if (!(high > low)) [low, high] = Number.isFinite(low) ? [low - 1, high + 1] : [0, 1];
  const margin = 0.06 * (high - low);
  low -= margin;
  high += margin;
  const x = (tokens) => left + (width - left - right) * tokens / most;
  const y = (confidence) => top + (height - top - bottom) * (1 - (confidence - low) / (high - low));
  g.strokeStyle = colour("line");
  g.fillStyle = colour("muted");
  g.lineWidth = 1;
  g.textAlign = "right";
  g.textBaseline = "middle";
  const up = step(high - low, 5);
  for (let c = Math.ceil(low / up) * up; c <= high; c += up) {
    g.beginPath();
    g.moveTo(left, y(c));
    g.lineTo(width - right, y(c));
    g.stroke();
    g.fillText(Number(c.toFixed(6)).toString(), left - 6, y(c));
  }
  g.textAlign = "center";
  g.textBaseline = "top";
  const along = step(most, 8);
  for (let n = 0; n <= most; n += along) g.fillText(count(n), x(n), height - bottom + 8);
  g.textAlign = "right";
  g.fillText("tokens", width - right, height - bottom - 16);
  const by = kinds();
  const seen = new Set();
  g.save();
  g.beginPath();
  g.rect(left, top - 4, width - left - right + 6, height - top - bottom + 8);
  g.clip();
  g.lineJoin = "round";
  const alpha = all.length > 150 ? 0.4 : all.length > 50 ? 0.6 : 0.85;
  for (const kind of by.order) {
    g.strokeStyle = g.fillStyle = by.colour(kind);
    for (const t of all) {
      if (by.of(t) !== kind) continue;
      seen.add(kind);
      const state = fate(t);
      g.setLineDash(by.dash(kind));
      g.globalAlpha = state === "live" ? 1 : state === "stopped" ? 0.75 * alpha : alpha;
      g.lineWidth = state === "live" ? 1.6 : 1.1;
      g.beginPath();
      t.points.forEach((p, i) => (i ? g.lineTo(x(p[0]), y(p[1])) : g.moveTo(x(p[0]), y(p[1]))));
      g.stroke();
      g.setLineDash([]);
      const end = t.points[t.points.length - 1];
      g.globalAlpha = 1;
      if (state === "stopped") {
        const [cx, cy, r] = [x(end[0]), y(end[1]), 3.5];
        g.lineWidth = 1.8;
        g.beginPath();
        g.moveTo(cx - r, cy - r);
        g.lineTo(cx + r, cy + r);
        g.moveTo(cx + r, cy - r);
        g.lineTo(cx - r, cy + r);
        g.stroke();
      } else if (state !== "cancelled") {
        g.beginPath();
        g.arc(x(end[0]), y(end[1]), state === "live" ? 2.6 : 2, 0, 7);
        g.fill();
      }
    }
  }
  g.restore();
  g.globalAlpha = 1;
  if (run.bar !== null) {
    g.strokeStyle = g.fillStyle = colour("bar");
    g.lineWidth = 1.4;
    g.setLineDash([6, 4]);
    g.beginPath();
    g.moveTo(left, y(run.bar));
    g.lineTo(width - right, y(run.bar));
    g.stroke();
    g.setLineDash([]);
    g.textAlign = "right";
    g.textBaseline = "bottom";
    g.fillText("bar " + run.bar.toFixed(2), width - right, y(run.bar) - 3);
  }
  $("window").textContent = run.window ? "mean over " + count(run.window) + " tokens" : "";
  const listed = by.order.filter((kind) => seen.has(kind));
  if ($("by").value === "answer") listed.reverse();
  $("legend").replaceChildren(...listed.map((kind) => {
    const item = document.createElement("li");
    const box = document.createElement("canvas");
    box.width = 52;
    box.height = 24;
    const line = box.getContext("2d");
    line.scale(2, 2);
    line.strokeStyle = by.colour(kind);
    line.lineWidth = 3;
    line.setLineDash(by.dash(kind));
    line.moveTo(0, 6);
    line.lineTo(26, 6);
    line.stroke();
    item.append(box, by.name(kind) + " (" + all.filter((t) => by.of(t) === kind).length + ")");
    return item;
  }));
}

let places = [];
// room of the numbers beside the strips
const MARGIN = 46;

function strips() {
  const { g, width, height } = canvas("strips");
  const by = kinds();
  // those that run stand where they began; once all ended the longest come first
  const all = [...run.traces.values()].sort((a, b) => run.done ? b.tokens - a.tokens || a.id - b.id : a.id - b.id);
  const slots = Math.max(all.length, Math.min(run.budget, 64), 1);
  const wide = (width - MARGIN) / slots;
  const gap = wide > 4 ? 1.5 : wide > 2 ? 0.5 : 0;
  const most = Math.max(64, ...all.map((t) => t.tokens));
  const high = (tokens) => (height - 12) * tokens / most;
  g.strokeStyle = colour("line");
  g.fillStyle = colour("muted");
  g.textAlign = "right";
  g.textBaseline = "middle";
  const up = step(most, 3);
  for (let n = 0; n <= most; n += up) {
    const y = Math.min(height - high(n), height - 0.5);
    g.beginPath();
    g.moveTo(MARGIN, y);
    g.lineTo(width, y);
    g.stroke();
    g.fillText(count(n), MARGIN - 6, Math.min(Math.max(y, 7), height - 7));
  }
  places = all.map((t, i) => {
    const tall = Math.max(2, high(t.tokens));
    g.fillStyle = by.colour(by.of(t));
    g.fillRect(MARGIN + i * wide, height - tall, Math.max(wide - gap, 0.7), tall);
    return t;
  });
  $("longest").textContent = all.length ? "the longest has " + count(Math.max(...all.map((t) => t.tokens))) + " tokens" : "";
}

$("strips").addEventListener("mousemove", (event) => {
  const slots = Math.max(places.length, Math.min(run.budget, 64), 1);
  const t = places[Math.floor((event.offsetX - MARGIN) / ($("strips").clientWidth - MARGIN) * slots)];
  $("hover").textContent = t
    ? "trace " + t.id + ": " + FATES[fate(t)] + (t.finish === null ? ", " : " after ") + count(t.tokens) + " tokens" + (t.answer === null ? "" : ", answer " + t.answer)
    : "\u00a0";
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  solve();
});
$("problem").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("go").disabled) $("ask").requestSubmit();
});
$("by").addEventListener("change", redraw);
for (const example of EXAMPLES) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = example;
  button.addEventListener("click", () => {
    $("problem").value = example;
    $("problem").focus();
  });
  $("examples").append(button);
}
$("stop").addEventListener("click", () => abort.abort());
$("key").addEventListener("change", () => { complain(""); models(); });
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
models().catch((error) => complain(String(error.message || error)));
