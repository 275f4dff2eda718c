//! Packs the page and the assets into the binary: every file as it is, its gzip form, and a tag of its content.
//! Needs no node and no npm: the page's modules are served as they are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut files = BTreeMap::new();
    collect(&root.join("web-shim"), "", &["html", "css"], &mut files)?;
    collect(&root.join("web-shim/js"), "js/", &["js"], &mut files)?;
    collect(&root.join("assets"), "assets/", &["json", "svg", "png", "webmanifest"], &mut files)?;

    let mut table = String::from("pub(crate) static FILES: &[File] = &[\n");
    for (index, (path, source)) in files.iter().enumerate() {
        let content = fs::read(source)?;
        let gzip = out.join(format!("{index}.gz"));
        let mut encoder = GzEncoder::new(fs::File::create(&gzip)?, Compression::best());
        encoder.write_all(&content)?;
        encoder.finish()?;
        let tag: String = Sha256::digest(&content).iter().take(8).fold(String::new(), |mut tag, byte| {
            write!(tag, "{byte:02x}").expect("a string takes all");
            tag
        });
        writeln!(
            table,
            "    File {{ path: {path:?}, content_type: {:?}, etag: \"\\\"{tag}\\\"\", content: include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
            content_type(source),
            source.canonicalize()?,
            gzip
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

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/json",
    }
}
