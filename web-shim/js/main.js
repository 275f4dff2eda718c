// The page's entry: picks the view for the address and puts it on the page.
// Never reads the link's secret and never writes an address to a log.

import { applyTheme, loadLanguage, recall } from './page.js';

/** @import { App, View, ViewName } from './view.d.ts' */

/** @type {Record<ViewName, () => Promise<(app: App, session: any) => View>>} */
const views = {
  landing: async () => (await import('./landing.js')).showLanding,
  prejoin: async () => (await import('./prejoin.js')).showPrejoin,
  call: async () => (await import('./call-view.js')).showCall,
  left: async () => (await import('./left.js')).showLeft,
};

/** @type {View | null} */
let current = null;
/** @type {ViewName} */
let shown = 'landing';
let turn = 0;

/** @type {App} */
const app = {
  root: /** @type {HTMLElement} */ (document.getElementById('app')),
  async show(name, session) {
    const mine = ++turn;
    const [show] = await Promise.all([views[name](), loadLanguage()]);
    // Somebody navigated again while the module was on its way.
    if (mine !== turn) return;
    const first = !current;
    current?.dispose();
    shown = name;
    app.root.replaceChildren();
    app.root.dataset.view = name;
    current = show(app, session);
    if (!first) current.focus?.focus();
  },
  go(path) {
    history.pushState(null, '', path);
    route();
  },
  refresh(session) {
    app.show(shown, session);
  },
};

function route() {
  app.show(/^\/+room(\/|$)/i.test(location.pathname) ? 'prejoin' : 'landing');
}

applyTheme(recall('theme', 'auto'));
addEventListener('popstate', route);
route();
