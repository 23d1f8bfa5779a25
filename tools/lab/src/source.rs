// SPDX-License-Identifier: GPL-2.0
//! Looking at the project's own source text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// All Rust files below the folders, sorted; what a build leaves there is passed over.
pub fn rust_files(top: &Path, folders: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = folders.iter().map(|folder| top.join(folder)).collect();
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    left.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.to_string_lossy().ends_with("generated.rs")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Numbers of the lines that use the keyword `unsafe`; comments and lint names do not count.
pub fn unsafe_lines(text: &str) -> Vec<usize> {
    let uses = |line: &str| {
        let code = line.split("//").next().unwrap_or(line);
        code.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .any(|word| word == "unsafe")
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| uses(line))
        .map(|(index, _)| index + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_leaves_is_passed_over() {
        let top = std::env::temp_dir().join(format!("source-{}", std::process::id()));
        fs::create_dir_all(top.join("rust/target")).unwrap();
        for name in ["lib.rs", "generated.rs", "a_generated.rs", "target/b.rs"] {
            fs::write(top.join("rust").join(name), "").unwrap();
        }
        let files = rust_files(&top, &["rust"]).unwrap();
        fs::remove_dir_all(&top).unwrap();
        assert_eq!(files, [top.join("rust/lib.rs")]);
    }

    /// `Documentation/unsafe.md` has a row for each file that uses the keyword, and no other.
    #[test]
    fn the_page_on_unsafe_counts_right() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = fs::read_to_string(top.join("Documentation/unsafe.md")).unwrap();
        let told: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `rust/") || line.starts_with("| `tools/"))
            .collect();
        let mut is = Vec::new();
        // The lab has none, but names the keyword.
        let crates = ["conform", "devmodel", "vdpa-user", "vhost-client"]
            .map(|name| format!("tools/{name}"));
        let places: Vec<&str> = crates.iter().map(String::as_str).chain(["rust"]).collect();
        for file in rust_files(&top, &places).unwrap() {
            let count = unsafe_lines(&fs::read_to_string(&file).unwrap()).len();
            if count != 0 {
                let name = file.strip_prefix(&top).unwrap().display();
                is.push(format!("| `{name}` | {count} |"));
            }
        }
        for row in &is {
            assert!(told.contains(&row.as_str()), "the row should be {row}");
        }
        assert_eq!(told.len(), is.len(), "rows of files without the keyword");
    }

    #[test]
    fn the_keyword_is_found_and_nothing_else() {
        assert_eq!(
            unsafe_lines("// SAFETY: It is.\nlet a = unsafe { b() };\nunsafe fn c() {}\n"),
            [2, 3]
        );
        assert!(
            unsafe_lines("#![forbid(unsafe_code)]\n// no unsafe here\nlet not_unsafe = 1;\n")
                .is_empty()
        );
    }
}
