/*
 * What the page's tests run inside the browser. Texts, so that the types of a browser need not be among those of the
 * program.
 */

/** Notes what the content security policy refuses. */
export const WATCH_POLICY = `
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.violations.push(event.violatedDirective + ' ' + event.blockedURI);
});`;

/** Puts in what an attacker would: a script, and an image with a handler. */
export const BREAK_IN = `
const script = document.createElement('script');
script.textContent = 'window.marked = "ran"';
document.body.append(script);
document.body.insertAdjacentHTML('beforeend', '<img src="x" onerror="window.marked = 1">');`;

/** Makes the page look for news now, as a reader does who comes back to it. */
export const LOOK_AGAIN = `document.dispatchEvent(new Event('visibilitychange'))`;

/** How many elements there are that nobody meant to have. */
export const STRANGE_ELEMENTS = `document.querySelectorAll('img, iframe, object, embed, [onerror]').length`;

/** Which card has the focus, and how it shows it. */
export const FOCUSED = `(() => {
  const card = document.activeElement;
  return { id: card.querySelector('h2')?.textContent, outline: getComputedStyle(card).outlineStyle };
})()`;

/** Whether the page is wider than the window, by how much. */
export const OVERHANG = `document.documentElement.scrollWidth - window.innerWidth`;

/** The ground of the page. */
export const GROUND = `getComputedStyle(document.body).backgroundColor`;

/** Texts with less contrast than WCAG 2 asks for (AA, 4.5 to 1). */
export const PALE = `(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = numbers(colour).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return numbers(colour)[3] === 0 ? groundOf(element.parentElement) : colour;
  };
  return [...document.querySelectorAll('h1, h2, p, dt, dd, strong')].flatMap((element) => {
    const [a, b] = [luminance(getComputedStyle(element).color), luminance(groundOf(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    return ratio < 4.5 ? [element.tagName + '.' + element.className + ' ' + ratio.toFixed(1)] : [];
  });
})()`;
