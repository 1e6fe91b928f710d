// What is wrong with a page for those who do not see it well, cannot use a mouse or have it read to them.
(() => {
  const wrong = [];
  const say = (what, one) => wrong.push(`${what}: ${(one.outerHTML || String(one)).slice(0, 120)}`);
  const all = (selector) => [...document.querySelectorAll(selector)];

  const parse = (colour) => {
    const found = colour.match(/[\d.]+/g).map(Number);
    return colour.startsWith('color(') ? [...found.slice(0, 3).map((x) => x * 255), found[3] ?? 1] : [...found.slice(0, 3), found[3] ?? 1];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
      if (colour[3] !== 0) say('a ground that is seen through', at);
    }
    return [255, 255, 255, 1];
  };
  const seen = (one) => one.getClientRects().length && getComputedStyle(one).visibility === 'visible';
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !seen(one) || one.closest('title, desc, style')) continue;
    const style = getComputedStyle(one);
    const own = parse(one.closest('svg') ? style.fill : style.color);
    const [low, high] = [light(own), light(ground(one))].sort((a, b) => a - b);
    texts += 1;
    if ((high + 0.05) / (low + 0.05) < 4.5) say(`contrast ${((high + 0.05) / (low + 0.05)).toFixed(2)}`, one);
    if (parseFloat(style.fontSize) < 12 && !one.closest('svg')) say(`text of ${style.fontSize}`, one);
  }
  if (texts < 5) say('hardly any text', texts);

  if (document.documentElement.lang !== 'en') say('no language', document.documentElement);
  if (!document.title.trim()) say('no title', document.head);
  if (!document.querySelector('meta[name=viewport]')) say('no viewport', document.head);
  const ids = all('[id]').map((one) => one.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) say('an id twice', id);
  for (const one of all('[aria-labelledby]')) {
    for (const id of one.getAttribute('aria-labelledby').split(' ')) {
      if (!document.getElementById(id)?.textContent.trim()) say('named by nothing', one);
    }
  }
  for (const one of all('a[href^="#"]')) if (!document.getElementById(one.hash.slice(1))) say('a link to nowhere', one);
  for (const one of all('img:not([alt]), svg:not([role=img]):not([aria-hidden=true])')) say('a picture without words', one);
  for (const one of all('svg[role=img]')) if (!one.getAttribute('aria-labelledby')) say('a picture without a name', one);

  const levels = all('h1, h2, h3, h4').map((one) => Number(one.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) say('not one h1', levels);
  levels.forEach((level, at) => at && level > levels[at - 1] + 1 && say('a level of headings is left out', levels));
  for (const one of all('h1, h2, h3')) if (!one.textContent.trim()) say('an empty heading', one);

  for (const table of all('table:not([role=presentation])')) {
    if (document.querySelector('main') && !table.caption?.textContent.trim()) say('a table without a caption', table);
    for (const one of table.querySelectorAll('th')) if (!one.scope) say('a head without scope', one);
    for (const row of table.rows) if (!row.querySelector('th')) say('a row without a head', row);
    const counts = new Set([...table.rows].map((row) => [...row.cells].reduce((sum, one) => sum + one.colSpan, 0)));
    if (counts.size !== 1) say('rows of different lengths', table);
  }
  for (const one of all('ul, ol')) for (const child of one.children) if (child.tagName !== 'LI') say('no item', child);
  for (const one of all('dl > *')) if (!one.querySelector('dt, dd') && !/^D[TD]$/.test(one.tagName)) say('no term', one);
  for (const one of all('*')) {
    const style = getComputedStyle(one);
    if (/auto|scroll/.test(style.overflowX) && one.scrollWidth > one.clientWidth && one.tabIndex < 0) say('scrolls by mouse alone', one);
  }
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) say(`wider than its window by ${page.scrollWidth - page.clientWidth}`, page.tagName);
  return wrong;
})();
