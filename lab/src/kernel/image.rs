//! The guest's file system: an initramfs.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::ModuleTree;
use crate::command::here;
use crate::{Error, Result};

/// The guest's first process.
const INIT: &str = include_str!("init.sh");

/// Runs a command on a host of the guest: `on a ip link`. Through a shell, because busybox's
/// nsenter would take busybox's own `ip`.
const ON: &str = r#"#!/bin/sh
host=$1
shift
exec nsenter -t "$(cat "/run/hosts/$host")" -n -m -u /usr/bin/sh -c 'exec "$@"' on "$@"
"#;

/// Modules that make devices of their own when loaded, unless told otherwise.
const PARAMETERS: &[(&str, &str)] = &[("bonding", "max_bonds=0"), ("dummy", "numdummies=0")];

/// A folder that becomes an initramfs.
#[derive(Debug)]
pub(crate) struct Image {
    root: PathBuf,
}

impl Image {
    /// With the first process and the folders it mounts on.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let image = Self { root: root.to_owned() };
        for folder in ["applets", "bin", "dev", "lab/on", "lab/steps", "proc", "run", "sys", "tmp", "var"] {
            let path = root.join(folder);
            std::fs::create_dir_all(&path).map_err(Error::io(path.display().to_string()))?;
        }
        for (link, to) in [("bin/sh", "/usr/bin/sh"), ("var/run", "/run")] {
            let path = root.join(link);
            std::os::unix::fs::symlink(to, &path).map_err(Error::io(path.display().to_string()))?;
        }
        image.file("/init", INIT.as_bytes(), 0o755)?;
        image.file("/usr/bin/on", ON.as_bytes(), 0o755)?;
        image.file("/etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644)?;
        image.file("/etc/resolv.conf", b"", 0o644)?;
        image.file("/etc/machine-id", b"ffffffffffffffffffffffffffffffff\n", 0o444)?;
        image.file("/etc/os-release", b"ID=debian\nPRETTY_NAME=\"Lab guest\"\n", 0o644)?;
        Ok(image)
    }

    pub(crate) fn file(&self, path: &str, contents: &[u8], mode: u32) -> Result<()> {
        let to = self.inside(Path::new(path))?;
        std::fs::write(&to, contents)
            .and_then(|()| std::fs::set_permissions(&to, Permissions::from_mode(mode)))
            .map_err(Error::io(to.display().to_string()))
    }

    /// Static, so it needs nothing else. Its tools come last on the guest's search path.
    pub(crate) fn busybox(&self, path: &Path) -> Result<()> {
        self.copy(path, Path::new("/bin/busybox"))
    }

    /// A binary in `/usr/bin`, and its shared libraries where it looks for them.
    pub(crate) fn binary(&self, path: &Path) -> Result<()> {
        let name = path.file_name().ok_or_else(|| Error::Plan(format!("{}: not a file", path.display())))?;
        self.copy(path, &Path::new("/usr/bin").join(name))?;
        // ldd fails for a static binary, which has none.
        let listed = here(&["ldd", &path.to_string_lossy()], b"").unwrap_or_default();
        for library in libraries(&listed)? {
            self.copy(Path::new(library), Path::new(library))?;
        }
        Ok(())
    }

    /// Modules with all that they depend on, and the order in which to load them.
    pub(crate) fn modules(&self, tree: &ModuleTree, names: &[String]) -> Result<()> {
        let root = tree.root.to_string_lossy();
        let mut order = String::new();
        let mut seen = BTreeSet::new();
        for name in names {
            let listed = here(&["modprobe", "-d", &root, "-S", &tree.release, "--show-depends", name], b"")?;
            // "builtin NAME" needs no loading.
            for path in listed.lines().filter_map(|line| line.strip_prefix("insmod ")) {
                let path = Path::new(path.split_whitespace().next().unwrap_or_default());
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                if seen.insert(stem.clone()) {
                    self.copy(path, Path::new(&format!("/lab/modules/{stem}.ko")))?;
                    let parameter =
                        PARAMETERS.iter().find(|(module, _)| *module == stem).map_or("", |(_, p)| p);
                    order.push_str(&format!("{stem} {parameter}\n"));
                }
            }
        }
        self.file("/lab/modules/order", order.as_bytes(), 0o644)
    }

    /// Writes the initramfs.
    pub(crate) fn pack(&self, to: &Path) -> Result<PathBuf> {
        let script = r#"cd "$0" && find . -print0 | cpio --quiet --null -o -H newc -R 0:0 >"$1""#;
        here(&["sh", "-c", script, &self.root.to_string_lossy(), &to.to_string_lossy()], b"")?;
        Ok(to.to_owned())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let to = self.inside(to)?;
        std::fs::copy(from, &to).map(drop).map_err(Error::io(format!("{} into the guest", from.display())))
    }

    /// The path in the folder, whose parent is made.
    fn inside(&self, path: &Path) -> Result<PathBuf> {
        let path = self.root.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io(parent.display().to_string()))?;
        }
        Ok(path)
    }
}

/// The paths that `ldd` lists; a library that is not there is an error.
fn libraries(listed: &str) -> Result<Vec<&str>> {
    let mut paths = Vec::new();
    for line in listed.lines() {
        if line.contains("=> not found") {
            return Err(Error::Missing(format!("shared library: {}", line.trim())));
        }
        // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)", "/lib64/ld-linux-x86-64.so.2 (0x...)"
        let path = line.split_once("=> ").map_or(line, |(_, path)| path).split_whitespace().next();
        paths.extend(path.filter(|path| path.starts_with('/')));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries(listed).unwrap(),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert!(libraries("\tlibx.so => not found\n").unwrap_err().to_string().contains("libx.so"));
        assert!(libraries("\tstatically linked\n").unwrap().is_empty());
    }
}
