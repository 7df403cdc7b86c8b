//! Where the binaries under test are.

use std::path::PathBuf;

use crate::{Error, Result};

/// The built binary `name` (`agent`, `manager`, `lab`): in `KATTILA_BIN_DIR` where that is set,
/// otherwise beside the running executable, which is where cargo puts them.
pub fn bin(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("KATTILA_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => profile_dir()?,
    };
    // Absolute: it is started from another working directory.
    let path = std::path::absolute(folder.join(name)).map_err(Error::io(format!("path of {name}")))?;
    if path.is_file() {
        return Ok(path);
    }
    let release = if folder.ends_with("release") { " --release" } else { "" };
    Err(Error::Missing(format!(
        "no {} (run: cargo build{release} -p {name}; KATTILA_BIN_DIR names another folder)",
        path.display()
    )))
}

/// `target/debug` or `target/release`: test executables are one deeper, in `deps`.
fn profile_dir() -> Result<PathBuf> {
    let mut folder = std::env::current_exe().map_err(Error::io("own executable's path"))?;
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_named_with_the_command_that_builds_it() {
        let text = bin("no-such-binary").unwrap_err().to_string();
        assert!(text.contains("no-such-binary") && text.contains("cargo build"), "{text}");
    }
}
