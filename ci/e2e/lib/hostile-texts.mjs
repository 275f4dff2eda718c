// Texts that try to become code, and how a page shows that none did.

import assert from 'node:assert/strict';

/** Forty ways in which text has become code in somebody's page. */
export const HOSTILE = [
  '<script>__breach()</script>', '<img src=x onerror=__breach()>', '<svg onload=__breach()>', '"><script>__breach()</script>',
  "'><img src=x onerror=__breach()>", '<iframe srcdoc="<script>parent.__breach()</script>">', '<a href="javascript:__breach()">x</a>', 'javascript:__breach()',
  '<body onload=__breach()>', '<input autofocus onfocus=__breach()>', '<details open ontoggle=__breach()>', '<video><source onerror=__breach()>',
  '<math><mi xlink:href="javascript:__breach()">', '<style>@import"javascript:__breach()"</style>', '{{constructor.constructor("__breach()")()}}', '${__breach()}',
  '`${__breach()}`', '</title><script>__breach()</script>', '</textarea><script>__breach()</script>', '</script><script>__breach()</script>',
  '<scr<script>ipt>__breach()</script>', '<SCRIPT>__breach()</SCRIPT>', '<img/src=x/onerror=__breach()>', '<svg><animate onbegin=__breach()>',
  '<object data="javascript:__breach()">', '<embed src="javascript:__breach()">', '<form action="javascript:__breach()"><button>', '<base href="//x/">',
  '<meta http-equiv=refresh content="0;javascript:__breach()">', '<link rel=stylesheet href="//x/">', '&lt;script&gt;__breach()&lt;/script&gt;', '&#60;img src=x onerror=__breach()&#62;',
  '%3Cscript%3E__breach()%3C/script%3E', '\\u003cscript\\u003e__breach()', '<!--><script>__breach()</script>', '<![CDATA[<script>__breach()]]>',
  '<xss style=animation-name:x onanimationend=__breach()>', '<button popovertarget=x onclick=__breach()>', '__proto__', '[object Object]<b>bold</b>',
];

/** What the page knows about breaches. */
export async function assertUnharmed(someone, where) {
  assert.equal(await someone.page.evaluate(() => window.__probe.executed), 0, `${where}: something ran`);
  assert.deepEqual(await someone.violations(), [], `${where}: a breach of the content policy`);
  const planted = await someone.page.$$eval('script:not([src]), iframe, object, embed, base, meta[http-equiv=refresh]', nodes => nodes.map(node => node.outerHTML));
  assert.deepEqual(planted, [], `${where}: markup came to life`);
}
