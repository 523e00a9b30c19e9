/** The page's style: dark and light by the reader's choice, one column on a phone. */
export const STYLE = `
:root { --bg: #f6f7f5; --card: #fff; --text: #1c211d; --quiet: #5d675f; --line: #dfe4df;
  --green: #1a7f4b; --amber: #9a6200; --red: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --bg: #131714; --card: #1c221e; --text: #e6ebe7; --quiet: #9aa59c;
  --line: #2e3731; --green: #58c48c; --amber: #e0a63a; --red: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--text);
  font: 16px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.25rem; }
h1 { font-size: 1.1rem; margin: 0; color: var(--quiet); font-weight: 600; }
.headline, .alarm { font-size: 1.5rem; font-weight: 650; margin: .15rem 0; }
.alarm { color: var(--red); } .warn { color: var(--amber); }
.quiet { color: var(--quiet); margin: 0 0 1rem; font-size: .9rem; }
.connections { list-style: none; margin: 0; padding: 0; display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-left: .3rem solid var(--quiet);
  border-radius: .5rem; padding: .8rem 1rem; min-width: 0; }
.card:focus-visible { outline: 3px solid var(--green); outline-offset: 2px; }
.card h2 { font-size: .95rem; margin: 0; overflow-wrap: anywhere; font-weight: 600; }
.state { margin: .1rem 0 .5rem; font-size: .95rem; }
.dot { display: inline-block; width: .65rem; height: .65rem; border-radius: 50%; background: var(--quiet);
  margin-right: .4rem; }
.live { border-left-color: var(--green); } .live .dot { background: var(--green); }
.catching_up, .starting, .backing_off { border-left-color: var(--amber); }
.catching_up .dot, .starting .dot, .backing_off .dot { background: var(--amber); }
.parked, .stalled { border-left-color: var(--red); } .parked .dot, .stalled .dot { background: var(--red); }
.removed { opacity: .65; }
dl { display: grid; grid-template-columns: 1fr 1fr; gap: .3rem .8rem; margin: 0; }
dt { color: var(--quiet); font-size: .78rem; } dd { margin: 0; font-variant-numeric: tabular-nums; }
dd.alarm { font-size: inherit; }
.spark { display: block; width: 100%; height: 2rem; margin-top: .5rem; }
.spark polyline { fill: none; stroke: var(--green); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.problem { margin: .5rem 0 0; font-size: .88rem; color: var(--red); overflow-wrap: anywhere; }
.problem strong { color: var(--text); font-weight: 600; }
`;

/** Takes the page's newest content every five seconds, and keeps the reader's place and focus. */
export const REFRESH = `
const main = document.getElementById('main');
async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(location.pathname, { cache: 'no-store' });
    const next = new DOMParser().parseFromString(await response.text(), 'text/html').getElementById('main');
    if (!next || next.innerHTML === main.innerHTML) return;
    const cards = [...main.querySelectorAll('.card')];
    const focused = cards[cards.indexOf(document.activeElement)]?.querySelector('h2')?.textContent;
    main.replaceChildren(...next.childNodes);
    const again = [...main.querySelectorAll('.card')].find((card) => card.querySelector('h2').textContent === focused);
    if (focused !== undefined) again?.focus({ preventScroll: true });
    document.title = 'wa-replica';
  } catch {
    document.title = 'wa-replica (no answer)';
  }
}
setInterval(refresh, 5000);
`;
