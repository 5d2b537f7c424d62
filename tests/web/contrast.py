"""The contrast of every text of a page with what is behind it, as WCAG counts it."""

CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== "none") return null;
      const color = numbers(style.backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest(".hidden, noscript, .disliked")) continue;
    const style = getComputedStyle(element);
    const ground = behind(element);
    if (ground === null) continue;
    const [one, other] = [light(numbers(style.color)), light(ground)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const told = `${ratio.toFixed(2)} ${style.color} ${element.className}: ${element.innerText.slice(0, 30)}`;
    if (ratio < (large ? 3 : 4.5)) found.push(told);
  }
  return [...new Set(found)];
}"""
"""Texts that stand out less than AA wants: 4.5, large ones 3. Not those on a gradient: initials, which say nothing."""
