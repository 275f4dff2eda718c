//! Joins the page's modules into a few files, so that a browser asks a few times instead of forty, and gzip finds what they have in common.
//! It is no bundler: a joined file is its modules one after the other, without the imports between them. That is right only while no two of
//! them declare the same name at the top and every import is the plain one-line form; anything else stops the build with a sentence.

use std::collections::{BTreeMap, BTreeSet};

/// The files that are made, each with the modules it starts from. What those import and no earlier file has comes along.
const FILES: [(&str, &[&str]); 10] = [
    // All that a guest needs to see *Join*, so that it takes one request.
    ("main", &["main", "landing", "prejoin", "device-menus", "failures"]),
    // The call itself, fetched while they look into the mirror.
    ("call", &["call", "call-view", "room-name", "chat-view", "people-view", "dialogs", "left"]),
    // What reads a pasted text on the start page: a guest who opens a link never needs it.
    ("find-link", &["find-link"]),
    // What is opened on demand (on-demand.js), which names these files as it names the modules.
    ("invite-view", &["invite-view"]),
    ("menu-views", &["menu-views"]),
    ("owner-view", &["owner-view"]),
    // One language is fetched.
    ("strings", &["strings"]),
    ("strings-de", &["strings-de"]),
    ("strings-on-demand", &["strings-on-demand"]),
    ("strings-on-demand-de", &["strings-on-demand-de"]),
];

/// Modules by name (`call-view`), each with its text.
pub(crate) type Modules = BTreeMap<String, String>;

/// The joined files, by name.
pub(crate) fn join(modules: &Modules) -> Modules {
    let mut file_of = BTreeMap::new();
    let mut parts = Vec::new();
    for (file, starts) in FILES {
        let mut order = Vec::new();
        for start in starts {
            visit(start, file, modules, &mut file_of, &mut order);
        }
        parts.push((file, order));
    }
    // What is reached by `import()` alone belongs to the call.
    for name in modules.keys() {
        if !file_of.contains_key(name.as_str()) {
            let (_, order) = &mut parts[1];
            visit(name, "call", modules, &mut file_of, order);
        }
    }
    parts
        .into_iter()
        .map(|(file, order)| (file.to_owned(), joined(file, &order, modules, &file_of)))
        .collect()
}

/// Puts what `name` imports before it, and then `name`, unless a file has it already.
fn visit<'a>(
    name: &'a str,
    file: &'static str,
    modules: &'a Modules,
    file_of: &mut BTreeMap<&'a str, &'static str>,
    order: &mut Vec<&'a str>,
) {
    if file_of.contains_key(name) {
        return;
    }
    file_of.insert(name, file);
    for import in imports(name, text(name, modules)) {
        visit(import.from, file, modules, file_of, order);
    }
    order.push(name);
}

fn joined(file: &str, order: &[&str], modules: &Modules, file_of: &BTreeMap<&str, &'static str>) -> String {
    let mut declared = BTreeMap::new();
    let mut exported = BTreeSet::new();
    let mut foreign: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut body = String::new();
    for name in order {
        for line in text(name, modules).lines() {
            if let Some(import) = parse_import(name, line) {
                let home = file_of[import.from];
                if home != file {
                    assert!(
                        file != "main",
                        "{name}.js: the first file must not import {home}.js before it is needed"
                    );
                    foreign.entry(home).or_default().extend(import.names);
                }
                continue;
            }
            let statement = match line.strip_prefix("export ") {
                Some(statement) => {
                    let declares = declaration(statement);
                    exported.insert(
                        declares
                            .unwrap_or_else(|| panic!("{name}.js: export it where it is declared: {line}")),
                    );
                    statement
                }
                None => line,
            };
            if let Some(declares) = declaration(statement)
                && let Some(other) = declared.insert(declares, name)
            {
                panic!(
                    "{name}.js and {other}.js both declare {declares}, and they are served as one file: rename one"
                );
            }
            body.push_str(&point_at_files(statement, file_of));
            body.push('\n');
        }
    }
    let imports = foreign.into_iter().fold(String::new(), |all, (home, names)| {
        all + &format!("import {{ {} }} from './{home}.js';\n", Vec::from_iter(names).join(", "))
    });
    format!("{imports}{body}export {{ {} }};\n", Vec::from_iter(exported).join(", "))
}

/// `import('./tile.js')` becomes an import of the file that the module is in, which exports all that the module does. The same in back quotes,
/// where something follows the name.
fn point_at_files(line: &str, file_of: &BTreeMap<&str, &'static str>) -> String {
    ["import('./", "import(`./"].into_iter().fold(line.to_owned(), |line, start| {
        let mut pieces = line.split(start);
        let mut pointed = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (module, rest) =
                piece.split_once(".js").unwrap_or_else(|| panic!("an import() over two lines: {line}"));
            let file = file_of
                .get(module)
                .unwrap_or_else(|| panic!("import() of a module that there is not: {line}"));
            pointed.push_str(&format!("{start}{file}.js{rest}"));
        }
        pointed
    })
}

struct Import<'a> {
    from: &'a str,
    names: Vec<&'a str>,
}

fn imports<'a>(name: &str, text: &'a str) -> Vec<Import<'a>> {
    text.lines().filter_map(|line| parse_import(name, line)).collect()
}

/// `import { a, b } from './c.js';`
fn parse_import<'a>(name: &str, line: &'a str) -> Option<Import<'a>> {
    let rest = line.strip_prefix("import ")?;
    let parsed = rest.strip_prefix("{ ").and_then(|rest| {
        let (names, from) = rest.strip_suffix(".js';")?.split_once(" } from './")?;
        (!names.contains(" as ")).then(|| Import { from, names: names.split(", ").collect() })
    });
    Some(parsed.unwrap_or_else(|| {
        panic!("{name}.js: write it as import {{ a, b }} from './c.js'; instead of {line}")
    }))
}

/// The name that a line at the top of a module declares.
fn declaration(line: &str) -> Option<&str> {
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = ["function* ", "function ", "class ", "const ", "let "]
        .iter()
        .find_map(|kind| line.strip_prefix(kind))?;
    let end =
        rest.find(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '$')))?;
    (end > 0).then(|| &rest[..end])
}

fn text<'a>(name: &str, modules: &'a Modules) -> &'a str {
    modules.get(name).unwrap_or_else(|| panic!("there is no web-shim/js/{name}.js"))
}
