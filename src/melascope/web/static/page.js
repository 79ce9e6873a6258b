// What every part of the page needs: its elements, its texts, and names as they may be shown.

export const byId = (id) => document.getElementById(id);
export const texts = JSON.parse(byId("texts").textContent);
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
export const announce = (text) => { byId("announce").textContent = text; };

/** For the name of a file that has none: the moment, to the second. */
export const stamp = () => new Date().toISOString().slice(0, 19).replace(/[T:]/g, "-");

/** As the server shows names: nothing that turns text around or hides it. */
export const shown = (name) => name.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\uFFFD");
