import assert from 'node:assert/strict';
import { test } from 'node:test';
import { roomName } from '../js/room-name.js';

test('names in Latin, Cyrillic and Greek letters are transliterated whole', () => {
  for (const [typed, id] of [
    ['Łódź', 'lodz'], ['Zażółć gęślą jaźń', 'zazolc-gesla-jazn'], ['Straße 7', 'strasse-7'], ['GRÜẞE', 'grusse'],
    ['Smørrebrød', 'smorrebrod'], ['Ærø', 'aero'], ['Œuvre', 'oeuvre'], ['Đà Nẵng', 'da-nang'], ['İstanbul ılık', 'istanbul-ilik'],
    ['Ħal Għaxaq', 'hal-ghaxaq'], ['Þórshöfn', 'thorshofn'], ['Reykjavi\u0301k', 'reykjavik'],
    ['Привет мир', 'privet-mir'], ['ЩУКА', 'shchuka'], ['Объезд', 'obezd'], ['Йошкар-Ола', 'yoshkar-ola'], ['и\u0306од', 'yod'],
    ['Київ', 'kyiv'], ['Ґанок', 'ganok'], ['Ћуприја', 'cuprija'], ['Њујорк', 'njujork'], ['Ќустендил', 'kustendil'],
    ['Αθήνα', 'athina'], ['Ψυχή', 'psychi'], ['ΟΥΡΑΝΟΣ', 'ouranos'], ['Μουσικός', 'mousikos'],
    ['ﬁne ① ｒｏｏｍ', 'fine-1-room'], ['Party 🎉', 'party'], ['Anna’s room', 'anna-s-room'], ['a--b__c', 'a-b-c'],
  ]) {
    assert.deepEqual(roomName(typed), { id, problem: null }, typed);
  }
});

test('a letter or digit that cannot be transliterated refuses the name; it is never left out', () => {
  for (const typed of ['會議', 'Room 会议', 'こんにちは', '한국어', 'שלום', 'مرحبا', 'abc ქართული', 'ภาษาไทย', 'नमस्ते', 'Հայաստան', 'room ٣٤٥', 'ʁoom']) {
    assert.deepEqual(roomName(typed), { id: null, problem: 'script' }, typed);
  }
});

test('a name that comes out too short or too long is refused for that', () => {
  for (const typed of ['', 'ab', '!!', '🙂', 'a'.repeat(65), 'щ'.repeat(17), '\u0301\u0301\u0301']) {
    assert.deepEqual(roomName(typed), { id: null, problem: 'length' }, typed);
  }
});
