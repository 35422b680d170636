// The page: it ranks texts by POST v2/rerank, and shows the server's load by GET status.
// All paths are relative, so that the page also works where the server is mounted below another path.
// Texts reach the document as text nodes only, so that no text of a user or of the server can become markup.

const MEANINGS = {
  0: 'The server cannot be reached',
  401: 'The server requires a key',
  413: 'The request is too large',
  429: 'The server is busy',
  503: 'The server cannot answer now',
};
const LONG = 600; // code points of a document that is shown whole
const CONTEXT = 150; // code points before and after a marked part of a longer one
const NO_MATCH = 0.01; // score below which no part of a document is marked
const POLL = 1000; // milliseconds
const POLL_AFTER_FAILURE = 5000;
const SAMPLES = 60; // of a sparkline

const element = (id) => document.getElementById(id);
const form = element('form');

/** Make an element. Strings among its children become text. */
function make(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

const round = (value, digits = 0) => value.toLocaleString('en', { maximumFractionDigits: digits });
const plural = (count, noun) => `${round(count)} ${noun}${count === 1 ? '' : 's'}`;

function duration(milliseconds) {
  if (milliseconds >= 1000) return `${round(milliseconds / 1000, 2)} s`;
  return `${round(milliseconds, milliseconds < 10 ? 1 : 0)} ms`;
}

// ── Requests ──

/** An answer that is not a success. Its status is 0 if there was no answer. */
class Refusal extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    Object.assign(this, { status, retryAfter });
  }
}

/** The JSON of an answer, and its headers. */
async function ask(path, signal, body) {
  const headers = body ? { 'content-type': 'application/json' } : {};
  const key = element('key');
  if (key.value && key.validity.valid) headers.authorization = `Bearer ${key.value}`;
  const method = body ? 'POST' : 'GET';
  let response, answer;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), cache: 'no-store' });
    answer = await response.json();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    // What is not JSON comes from something between the page and the server.
    if (!(error instanceof SyntaxError)) throw new Refusal(0, 'check that it runs, and that you can connect to it');
  }
  if (response.ok && answer) return { answer, headers: response.headers };
  const message = answer?.message ?? `it answered ${response.status} ${response.statusText}`;
  throw new Refusal(response.status, message, Number(response.headers.get('retry-after')));
}

// ── The form ──

function documents() {
  const separator = form.elements.separator.value === 'line' ? '\n' : /\n(?:[^\S\n]*\n)+/;
  const texts = element('documents').value.split(separator);
  return texts.map((text) => text.trim()).filter(Boolean);
}

function countDocuments() {
  const count = documents().length;
  element('count').textContent = count ? plural(count, 'document') : 'none yet';
  element('documents').setCustomValidity(count ? '' : 'Enter at least one document.');
}

function fillExample() {
  const text = element('example-documents').content.textContent.trim();
  const own = element('documents').value.trim();
  if (own && own !== text && !window.confirm('Replace your query and documents by the example?')) return;
  element('query').value = element('example').dataset.query;
  element('documents').value = text;
  form.elements.separator.value = 'line';
  countDocuments();
  form.requestSubmit();
}

function requestBody(texts) {
  const body = { query: element('query').value, documents: texts, relevant_spans: { mode: 'enabled' } };
  if (element('model').value) body.model = element('model').value;
  if (element('top').value) body.top_n = Number(element('top').value);
  return body;
}

let inProgress = new AbortController();

async function rank(event) {
  event.preventDefault();
  inProgress.abort(); // the new request replaces it
  inProgress = new AbortController();
  const { signal } = inProgress;
  const texts = documents();
  say(false, `Ranking ${plural(texts.length, 'document')}.`);
  element('result').setAttribute('aria-busy', 'true');
  try {
    const { answer, headers } = await ask('v2/rerank', signal, requestBody(texts));
    showRanking(answer, texts, headers.get('server-timing') ?? '');
    if (!watch.timer) poll(); // the key that it stopped for is there
  } catch (error) {
    if (signal.aborted) return;
    showFailure(error);
  }
  element('result').removeAttribute('aria-busy');
}

// ── The result ──

function say(failed, ...content) {
  element('note').replaceChildren(...content);
  element('note').classList.toggle('failed', failed);
}

function clearResult() {
  for (const id of ['facts', 'warnings', 'ranking']) element(id).replaceChildren();
}

function showFailure({ status, message, retryAfter }) {
  clearResult();
  const other = status < 500 ? 'The server cannot use this request' : 'The server failed';
  const wait = retryAfter ? ` Try again in ${plural(retryAfter, 'second')}.` : '';
  say(true, make('strong', '', `${MEANINGS[status] ?? other}:`), ` ${message}.${wait}`);
  if (status === 401) element('key').focus();
}

function showRanking({ results, model, usage, meta }, texts, timing) {
  clearResult();
  const part = results.length < texts.length ? `The best ${round(results.length)} of ` : '';
  say(false, `${part}${plural(texts.length, 'document')}, ranked by ${model}.`);
  element('facts').append(fact('tokens', round(usage.total_tokens)));
  for (const [, stage, milliseconds] of timing.matchAll(/(\w+);dur=([\d.]+)/g)) {
    element('facts').append(fact(stage, duration(Number(milliseconds))));
  }
  element('warnings').append(...meta.warnings.map((text) => make('li', '', text)));
  const best = Math.max(...results.flatMap((result) => result.relevant_spans ?? []).map((span) => span.score));
  const least = Math.max(NO_MATCH, best / 10); // the server sends parts of every document, also of one without a match
  element('ranking').append(...results.map((result) => makePlace(result, texts[result.index], least)));
  // Where the columns lie below each other, the result would stay out of sight.
  if (matchMedia('(max-width: 60rem)').matches) element('result').scrollIntoView();
}

function fact(name, value) {
  return make('div', `fact ${name}`, make('dt', '', name), make('dd', '', value));
}

function makePlace({ index, relevance_score: score, relevant_spans: spans = [] }, text, least) {
  const fill = make('span', 'fill');
  fill.style.width = `${100 * score}%`;
  const bar = make('span', 'bar', fill);
  bar.setAttribute('aria-hidden', 'true');
  const number = make('span', 'score', score.toFixed(4));
  number.title = `probability that the document is relevant: ${score}`;
  const measure = make('div', 'measure', number, make('span', 'index', `index ${index}`), bar);
  return make('li', 'place', measure, makeText(text, spans, least));
}

/** The text of a document. A long one is shortened until its button is pressed. */
function makeText(text, spans, least) {
  const points = Array.from(text); // the server counts in code points, JavaScript in UTF-16 units
  const pieces = cut(points, bestRanges(spans, least, points.length));
  const short = points.length > LONG ? pieces.map(shorten) : pieces;
  const paragraph = make('p', 'text', ...short.map(pieceNode));
  const block = make('div', 'words', paragraph);
  if (short.some((piece, place) => piece !== pieces[place])) {
    const button = make('button', 'small', `Show all ${round(points.length)} characters`);
    button.addEventListener('click', () => {
      paragraph.replaceChildren(...pieces.map(pieceNode));
      paragraph.tabIndex = -1; // the focus may not vanish with the button
      paragraph.focus();
      button.remove();
    });
    block.append(button);
  }
  return block;
}

/** Where the best parts are: [start, end] in code points, in order, joined where they meet. None if all is one part. */
function bestRanges(spans, least, length) {
  // A part beside the best one often overlaps it, so that it matches a little too.
  const from = Math.max(least, Math.max(...spans.map((span) => span.score)) / 2);
  const ranges = [];
  for (const { start, end } of spans.filter((span) => span.score >= from).sort((a, b) => a.start - b.start)) {
    const last = ranges.at(-1);
    if (last && start <= last[1] + 1) last[1] = Math.max(last[1], end);
    else ranges.push([start, end]);
  }
  return ranges.length === 1 && ranges[0][0] === 0 && ranges[0][1] >= length ? [] : ranges;
}

/** A text in pieces that are marked or not. */
function cut(points, ranges) {
  const pieces = [];
  let at = 0;
  for (const [start, end] of [...ranges, [points.length, points.length]]) {
    pieces.push({ points: points.slice(at, start), marked: false }, { points: points.slice(start, end), marked: true });
    at = end;
  }
  return pieces.filter((piece) => piece.points.length);
}

/** What stays of a piece that is not marked: the text beside its neighbours, or its beginning if it has none. */
function shorten(piece, place, { length }) {
  const head = place > 0 ? CONTEXT : length === 1 ? LONG : 0;
  const tail = place < length - 1 ? CONTEXT : 0;
  if (piece.marked || piece.points.length <= head + tail) return piece;
  const last = piece.points.length - tail;
  return { points: [...piece.points.slice(0, head), head ? ' … ' : '… ', ...piece.points.slice(last)], marked: false };
}

function pieceNode({ points, marked }) {
  return marked ? make('mark', '', points.join('')) : points.join('');
}

// ── The load ──

// What is shown of a model, from its entry in /status and the rates since the entry before.
const LOAD = {
  'waiting calls': ({ load }) => round(load.waiting_calls),
  'waiting tokens': ({ load }) => round(load.waiting_tokens),
  'running': ({ load }) => round(load.running),
  'estimated wait': ({ load }) => (load.estimated_wait === null ? '–' : duration(1000 * load.estimated_wait)),
  'pairs/s': (entry, rates) => (rates ? round(rates.pairs) : '–'),
  'tokens/s': (entry, rates) => (rates ? round(rates.tokens) : '–'),
};
const watch = { paused: false, timer: 0, turn: 0, cards: new Map() };

class ModelCard {
  constructor(name) {
    this.about = make('span', 'hint');
    this.values = Object.keys(LOAD).map((label) => [label, make('dd', '')]);
    const rows = this.values.map(([label, value]) => make('div', '', make('dt', '', label), value));
    this.curve = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
    this.chart = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    const attributes = { viewBox: `0 0 ${SAMPLES - 1} 20`, preserveAspectRatio: 'none', 'aria-hidden': 'true' };
    for (const [key, value] of Object.entries(attributes)) this.chart.setAttribute(key, value);
    this.chart.append(this.curve);
    this.peak = make('p', 'hint');
    const history = make('div', 'history', this.chart, this.peak);
    this.article = make('article', 'model', make('h3', '', name, ' ', this.about), make('dl', '', ...rows), history);
    this.forget();
  }

  /** Begin the rates anew, after a time without entries. */
  forget() {
    this.before = null;
    this.samples = [];
  }

  update(entry, now) {
    const seconds = (now - this.before?.now) / 1000;
    // A model that was loaded anew counts from zero.
    const rate = (name) => Math.max(0, entry.load[name] - this.before.load[name]) / seconds;
    const rates = this.before && { pairs: rate('pairs'), tokens: rate('pair_tokens') };
    this.before = { load: entry.load, now };
    this.about.textContent = `${entry.precision} on ${entry.provider}, up to ${round(entry.max_model_len)} tokens a pair`;
    for (const [label, value] of this.values) value.textContent = LOAD[label](entry, rates);
    if (rates) this.samples = [...this.samples, rates.pairs].slice(-SAMPLES);
    this.draw();
  }

  draw() {
    const peak = Math.max(0, ...this.samples);
    const first = SAMPLES - this.samples.length;
    const points = this.samples.map((value, place) => `${first + place},${19 - (18 * value) / (peak || 1)}`);
    this.curve.setAttribute('points', points.join(' '));
    this.peak.textContent = `peak of the last minute: ${round(peak)} pairs/s`;
  }
}

async function poll() {
  clearTimeout(watch.timer);
  const turn = ++watch.turn; // a later call replaces this one
  if (watch.paused || document.visibilityState !== 'visible') return;
  let failure = null;
  const { answer } = await ask('status', AbortSignal.timeout(POLL_AFTER_FAILURE)).catch((error) => {
    failure = error;
    return {};
  });
  if (turn !== watch.turn) return;
  element('models').classList.toggle('stale', Boolean(failure));
  if (failure) showState('down', { 0: 'Not reachable', 401: 'Key required' }[failure.status] ?? 'Not ready');
  else showStatus(answer);
  watch.timer = 0;
  if (failure?.status === 401) return; // until another key is given
  watch.timer = setTimeout(poll, failure ? POLL_AFTER_FAILURE : POLL);
}

function showStatus({ version, ready, models }) {
  showState(ready ? 'ready' : 'down', ready ? 'Ready' : 'Not ready');
  element('version').textContent = version;
  const names = models.map((entry) => entry.id);
  if (names.join('\n') !== [...watch.cards.keys()].join('\n')) {
    watch.cards = new Map(names.map((name) => [name, new ModelCard(name)]));
    element('models').replaceChildren(...[...watch.cards.values()].map((card) => card.article));
    listModels();
  }
  for (const entry of models) watch.cards.get(entry.id).update(entry, performance.now());
}

function showState(kind, text) {
  element('state').className = `state ${kind}`;
  element('state').textContent = text;
}

/** The choice of models. The first one answers where none is chosen. */
async function listModels() {
  const { answer } = await ask('v1/models').catch(() => ({ answer: { data: [] } }));
  const chosen = element('model').value;
  const options = answer.data.map(({ id }) => new Option(id, id, false, id === chosen));
  const first = answer.data.length ? `Default (${answer.data[0].id})` : 'Default';
  element('model').replaceChildren(new Option(first, ''), ...options);
}

function pollAnew() {
  for (const card of watch.cards.values()) card.forget();
  poll();
}

function togglePause() {
  watch.paused = !watch.paused;
  element('pause').textContent = watch.paused ? 'Resume' : 'Pause';
  if (watch.paused) showState('', 'Paused');
  pollAnew();
}

form.addEventListener('submit', rank);
form.addEventListener('input', countDocuments);
form.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault(); // the browser would submit a second time
  form.requestSubmit();
});
element('example').addEventListener('click', fillExample);
element('key').addEventListener('change', pollAnew);
element('pause').addEventListener('click', togglePause);
document.addEventListener('visibilitychange', pollAnew);
countDocuments();
poll();
