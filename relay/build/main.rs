//! Packs the page and the assets into the binary: every file, its gzip form, and a tag of its content.
//! It takes out what a browser does not need (comments, white space, long local names) and joins the modules (`join.rs`). It needs no node and no npm,
//! and nothing needs it to read or run the page: the modules work as they are written, from any file server.

// What a build script prints is how it talks to cargo.
#![allow(clippy::print_stdout)]

mod join;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use oxc_allocator::Allocator;
use oxc_codegen::{Codegen, CodegenOptions};
use oxc_minifier::{CompressOptions, MangleOptions, Minifier, MinifierOptions};
use oxc_parser::Parser;
use oxc_span::SourceType;
use sha2::{Digest, Sha256};
use zopfli::{Format, Options};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut files = BTreeMap::new();
    collect(&root.join("web-shim"), "", &["html", "css"], &mut files)?;
    collect(&root.join("assets"), "assets/", &["json", "svg", "png", "webmanifest"], &mut files)?;
    let mut contents: BTreeMap<String, (&'static str, Vec<u8>)> = BTreeMap::new();
    for (path, source) in &files {
        contents.insert(path.clone(), (content_type(source), compact(source, fs::read(source)?)));
    }
    for (name, text) in join::join(&modules(&root.join("web-shim/js"))?) {
        let script = compact_script(&name, &text).into_bytes();
        contents.insert(format!("/js/{name}.js"), ("text/javascript; charset=utf-8", script));
    }

    let mut table = String::from("pub(crate) static FILES: &[File] = &[\n");
    for (index, (path, (content_type, content))) in contents.iter().enumerate() {
        let plain = out.join(format!("{index}.plain"));
        fs::write(&plain, content)?;
        let gzip = out.join(format!("{index}.gz"));
        zopfli::compress(Options::default(), Format::Gzip, content.as_slice(), fs::File::create(&gzip)?)?;
        let tag: String = Sha256::digest(content).iter().take(8).fold(String::new(), |mut tag, byte| {
            write!(tag, "{byte:02x}").expect("a string takes all");
            tag
        });
        writeln!(
            table,
            "    File {{ path: {path:?}, content_type: {content_type:?}, etag: \"\\\"{tag}\\\"\", content: include_bytes!({plain:?}), gzip: include_bytes!({gzip:?}) }},"
        )
        .expect("a string takes all");
    }
    table.push_str("];\n");
    fs::write(out.join("page.rs"), table)
}

/// The files of one folder with one of `extensions`, by the path they are served at.
fn collect(
    folder: &Path,
    prefix: &str,
    extensions: &[&str],
    files: &mut BTreeMap<String, PathBuf>,
) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let name = path.file_name().and_then(|name| name.to_str());
        if let (Some(extension), Some(name)) = (extension, name)
            && extensions.contains(&extension)
        {
            println!("cargo::rerun-if-changed={}", path.display());
            files.insert(format!("/{prefix}{name}"), path);
        }
    }
    Ok(())
}

/// The page's modules by name.
fn modules(folder: &Path) -> io::Result<join::Modules> {
    let mut files = BTreeMap::new();
    collect(folder, "", &["js"], &mut files)?;
    let name = |path: &str| path.trim_start_matches('/').trim_end_matches(".js").to_owned();
    files.iter().map(|(path, source)| Ok((name(path), fs::read_to_string(source)?))).collect()
}

/// The file without what only its writers need.
fn compact(path: &Path, content: Vec<u8>) -> Vec<u8> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("css" | "html") => {
            let text =
                String::from_utf8(content).unwrap_or_else(|_| panic!("{} is not UTF-8", path.display()));
            compact_lines(&text).into_bytes()
        }
        _ => content,
    }
}

fn compact_script(name: &str, source: &str) -> String {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, SourceType::mjs()).parse();
    if let Some(error) = parsed.errors.first() {
        panic!("{name}.js: {error}");
    }
    let mut program = parsed.program;
    let options = MinifierOptions {
        mangle: Some(MangleOptions { top_level: Some(true), ..MangleOptions::default() }),
        compress: Some(CompressOptions::default()),
    };
    let minified = Minifier::new(options).minify(&allocator, &mut program);
    Codegen::new().with_options(CodegenOptions::minify()).with_scoping(minified.scoping).build(&program).code
}

/// Drops `/* … */` and `<!-- … -->` comments, indentation and empty lines. The page's style sheet and HTML have none of these inside strings.
fn compact_lines(source: &str) -> String {
    let mut kept = source.to_owned();
    for (open, close) in [("/*", "*/"), ("<!--", "-->")] {
        while let Some(start) = kept.find(open) {
            let end = kept[start..].find(close).map_or(kept.len(), |end| start + end + close.len());
            kept.replace_range(start..end, "");
        }
    }
    let lines = kept.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.fold(String::new(), |mut all, line| {
        all.push_str(line);
        all.push('\n');
        all
    })
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/json",
    }
}
