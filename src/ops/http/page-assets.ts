/** What a browser shows beside the title; here, so that it asks for no file. */
export const ICON =
  'data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 8 8%22%3E%3Ccircle cx=%224%22 cy=%224%22 r=%223%22 fill=%22%231a7f4b%22/%3E%3C/svg%3E';

/** The page's style: dark and light by the reader's choice, one column on a phone. */
export const STYLE = `
:root { --bg: #f6f7f5; --card: #fff; --text: #1c211d; --quiet: #5d675f; --line: #dfe4df;
  --green: #1a7f4b; --amber: #8a5700; --red: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --bg: #131714; --card: #1c221e; --text: #e6ebe7; --quiet: #9aa59c;
  --line: #2e3731; --green: #58c48c; --amber: #e0a63a; --red: #ff8a80; } }
* { box-sizing: border-box; }
body { max-width: 76rem; margin: 0 auto; padding: 1.25rem; background: var(--bg); color: var(--text);
  font: 16px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1rem; margin: 0; color: var(--quiet); font-weight: 600; }
#headline { font-size: 1.5rem; font-weight: 650; line-height: 1.25; margin: .15rem 0; }
.alarm, #stale { color: var(--red); } .warn { color: var(--amber); }
#facts { color: var(--quiet); margin: 0 0 1rem; font-size: .9rem; }
#stale { margin: 0 0 1rem; font-weight: 650; }
#connections { list-style: none; margin: 0; padding: 0; display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-left: .3rem solid var(--quiet);
  border-radius: .5rem; padding: .8rem 1rem; min-width: 0; }
.card:focus-visible { outline: 3px solid var(--green); outline-offset: 2px; }
.card h2 { font-size: .95rem; margin: 0; overflow-wrap: anywhere; font-weight: 600; }
.state { margin: .1rem 0 .5rem; font-size: .95rem; }
.dot { display: inline-block; width: .65rem; height: .65rem; border-radius: 50%; background: var(--quiet);
  margin-right: .4rem; }
.live { border-left-color: var(--green); } .live.odd { border-left-color: var(--amber); } .live .dot { background: var(--green); }
.catching_up, .starting, .backing_off { border-left-color: var(--amber); }
.catching_up .dot, .starting .dot, .backing_off .dot { background: var(--amber); }
.card.down { border-left-color: var(--red); } .down .dot { background: var(--red); }
.removed h2, .removed dd { color: var(--quiet); }
dl { display: grid; grid-template-columns: 2fr 3fr; gap: .3rem .8rem; margin: 0; }
dt { color: var(--quiet); font-size: .8rem; } dd { margin: 0; font-variant-numeric: tabular-nums; }
.parts { color: var(--quiet); font-size: .8rem; margin: .35rem 0 0; }
.spark { display: block; width: 100%; height: 2rem; margin-top: .5rem; }
.spark polyline { fill: none; stroke: var(--green); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.problem { margin: .5rem 0 0; font-size: .9rem; color: var(--red); overflow-wrap: anywhere; }
.problem.warn { color: var(--amber); } .problem strong { color: var(--text); font-weight: 600; }
.problem + dl { margin-top: .5rem; }
#connections.many { grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); }
.many .fine { padding: .5rem .8rem; align-self: start; } .many .fine .state { margin: 0; }
.many .fine dl { grid-template-columns: repeat(3, auto); } .many .fine dt { font-size: .75rem; }
.many .fine dd { font-size: .9rem; }
.many .fine dl div:nth-child(n + 4), .many .fine .parts, .many .fine .spark { display: none; }
`;

/**
 * Takes the page's newest content every five seconds and keeps the reader's place and focus. The headline is changed,
 * not replaced, so that a screen reader tells of it when it says something else. Where no answer comes, that is said.
 */
export const REFRESH = `
const byId = (id) => document.getElementById(id);
const nameOf = (card) => card?.querySelector('h2')?.textContent;
async function refresh() {
  if (document.hidden) return;
  let next;
  try {
    const response = await fetch(location.origin + location.pathname,
      { cache: 'no-store', signal: AbortSignal.timeout(10000) });
    const text = await response.text();
    // Without its head: the style there has a nonce of its own.
    const body = text.slice(text.indexOf('<header>'), text.indexOf('</main>'));
    next = new DOMParser().parseFromString(body, 'text/html');
  } catch {}
  const headline = next?.getElementById('headline');
  byId('stale').hidden = Boolean(headline);
  const alarm = !headline || headline.className === 'alarm';
  document.title = (alarm ? '⚠ ' : '') + 'wa-replica';
  if (!headline) return;
  if (byId('headline').textContent !== headline.textContent) byId('headline').textContent = headline.textContent;
  byId('headline').className = headline.className;
  byId('facts').textContent = next.getElementById('facts').textContent;
  const list = byId('connections');
  const fresh = next.getElementById('connections');
  list.className = fresh.className;
  if (fresh.innerHTML === list.innerHTML) return;
  const focused = list.contains(document.activeElement) ? nameOf(document.activeElement) : undefined;
  list.replaceChildren(...fresh.childNodes);
  if (focused !== undefined) {
    [...list.children].find((card) => nameOf(card) === focused)?.focus({ preventScroll: true });
  }
}
setInterval(refresh, 5000);
document.addEventListener('visibilitychange', refresh);
`;
