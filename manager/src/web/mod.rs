//! The page: its own files and the vendored layout library, compiled into the program.

use std::hash::{DefaultHasher, Hasher as _};

use gate::Answer;

use crate::reply;

/// A file of the page.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below `/web/`.
    pub path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal: $media_type:expr,)*) => {
        &[$(File { path: $path, media_type: $media_type, bytes: include_bytes!($path) },)*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// Every file of the page; the first is served at `/` too.
pub const FILES: &[File] = files! {
    "index.html": HTML,
    "style.css": CSS,
    "icon.svg": SVG,
    "agents.js": JS,
    "alarm-panel.js": JS,
    "alarms.js": JS,
    "api.js": JS,
    "camera.js": JS,
    "chart.js": JS,
    "details.js": JS,
    "dom.js": JS,
    "exports.js": JS,
    "far-facts.js": JS,
    "filters.js": JS,
    "geometry.js": JS,
    "input.js": JS,
    "keyboard.js": JS,
    "labels.js": JS,
    "layout-worker.js": JS,
    "layout.js": JS,
    "link-panel.js": JS,
    "main.js": JS,
    "map.js": JS,
    "marks.js": JS,
    "model.js": JS,
    "node-panel.js": JS,
    "notice.js": JS,
    "order.js": JS,
    "paint-links.js": JS,
    "paint-nodes.js": JS,
    "paint-path.js": JS,
    "path.js": JS,
    "picture.js": JS,
    "renderer.js": JS,
    "scene.js": JS,
    "search.js": JS,
    "sign.js": JS,
    "state.js": JS,
    "theme.js": JS,
    "time.js": JS,
    "vendor/LICENSE-d3.txt": TEXT,
    "vendor/d3-dispatch.min.js": JS,
    "vendor/d3-force.min.js": JS,
    "vendor/d3-quadtree.min.js": JS,
    "vendor/d3-timer.min.js": JS,
};

/// What the page may do: run its own files and ask its own manager, nothing else (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      worker-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The file at a path of a URL: `/` or `/web/...`.
#[must_use]
pub fn find(path: &str) -> Option<&'static File> {
    let name = if path == "/" { "index.html" } else { path.strip_prefix("/web/")? };
    FILES.iter().find(|file| file.path == name)
}

impl File {
    /// The file, or that the client has it already.
    #[must_use]
    pub fn answer(&'static self, known: Option<&str>) -> Answer {
        let tag = self.tag();
        let answer = if reply::has(known, &tag) {
            reply::not_modified(&tag)
        } else {
            Answer::new(200, self.media_type, self.bytes)
                .with_header("ETag", &format!("\"{tag}\""))
                .with_header("Cache-Control", "no-cache")
        };
        answer
            .with_header("Content-Security-Policy", POLICY)
            .with_header("X-Content-Type-Options", "nosniff")
            .with_header("Referrer-Policy", "no-referrer")
            .with_header("Cross-Origin-Opener-Policy", "same-origin")
    }

    /// A hash of its content.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.bytes);
        format!("{:016x}", hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn in_folder(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                in_folder(&entry.path(), &format!("{name}/"), found);
            } else if name != "mod.rs" {
                found.push(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let mut found = Vec::new();
        in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web"), "", &mut found);
        found.sort();
        let mut served: Vec<_> = FILES.iter().map(|file| file.path.to_owned()).collect();
        served.sort();
        assert_eq!(found, served);
        assert_eq!(find("/").unwrap().path, "index.html");
        assert_eq!(find("/web/vendor/d3-force.min.js").unwrap().media_type, JS);
        assert!(find("/web/mod.rs").is_none() && find("/web/").is_none());
    }

    #[test]
    fn imports_lead_to_files_and_nothing_is_inline() {
        for file in FILES.iter().filter(|file| !file.path.starts_with("vendor/")) {
            let text = std::str::from_utf8(file.bytes).unwrap();
            for (_, rest) in text.match_indices("from './").map(|(at, found)| text.split_at(at + found.len()))
            {
                let name = rest.split('\'').next().unwrap();
                assert!(find(&format!("/web/{name}")).is_some(), "{}: import of {name}", file.path);
            }
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(forbidden), "{} uses {forbidden}", file.path);
            }
            assert!(!text.contains("style=\"") && !text.contains("<style"), "{} has inline style", file.path);
        }
    }

    #[test]
    fn a_client_that_has_a_file_is_told_so() {
        let file = find("/").unwrap();
        let tag = file.answer(None).header("etag").unwrap().to_owned();
        assert_eq!(file.answer(Some(&tag)).status(), 304);
        assert_eq!(file.answer(Some("\"other\"")).status(), 200);
        assert!(file.answer(None).header("content-security-policy").unwrap().contains("script-src 'self'"));
    }
}
