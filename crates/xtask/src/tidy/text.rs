//! What stands in files: sizes, words, module documents, SQL.

use super::{Findings, Rule, arrows::SERVICES, tree::Tree};

/// Lines of a file, its unit tests apart.
const LINES_MAX: usize = 600;
/// Lines of a resource that is one file.
const SINGLE_LINES_MAX: usize = 400;
/// Folders whose text is ours to the last word.
const OURS: &[&str] = &["crates/", "tests/", "images/", "scripts/", "bench/", "docs/"];

/// Words that say that something is not finished, spelled in halves so that this page passes its own check.
const WORDS: &[(&str, &str)] = &[("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("todo", "!("), ("unimplemented", "!(")];

/// How SQL shows outside `store`: by its own word for a statement.
const SQL: &[&str] = &["store::query", "sqlx::"];
/// Crates that may speak SQL.
const SPEAK_SQL: &[&str] = &["store", "testkit", "xtask"];

/// Drivers that are the agent's business: services know the network's alone.
const AGENTS_DRIVERS: &[&str] = &["drivers::hypervisor", "drivers::disk"];

pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for (path, text) in &tree.files {
        if OURS.iter().any(|folder| path.starts_with(folder)) {
            check_words(path, text, findings);
        }
    }
    for name in tree.crates() {
        for (path, below, text) in tree.sources(name) {
            check_source(name, path, below, text, findings);
        }
    }
}

fn check_words(path: &str, text: &str, findings: &mut Findings) {
    for (number, line) in text.lines().enumerate() {
        let found = WORDS.iter().map(|(a, b)| format!("{a}{b}")).find(|word| has_word(line, word));
        if let Some(word) = found {
            let problem = format!("line {}: {word}: finish it, or file an issue", number + 1);
            findings.add_unless_excepted(Rule::Word, path, problem);
        }
    }
}

/// Whether the word stands there by itself: `mktemp -t XXXXXX` and the like are no notes.
fn has_word(line: &str, word: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        !letter(before) && (word.ends_with('(') || !letter(after))
    })
}

fn check_source(name: &str, path: &str, below: &str, text: &str, findings: &mut Findings) {
    if !text.starts_with("//!") {
        findings.add(path, "begins with what it is about: //! ...");
    }
    let code = before_tests(text);
    let lines = code.lines().count();
    let is_service = SERVICES.contains(&name);
    let single = is_service && !below.contains('/') && !["lib.rs", "routes.rs", "policy.rs"].contains(&below);
    let max = if single { SINGLE_LINES_MAX } else { LINES_MAX };
    if lines > max {
        findings.add_unless_excepted(Rule::Size, path, format!("{lines} lines; {max} are enough"));
    }
    if !SPEAK_SQL.contains(&name) && SQL.iter().any(|word| code.contains(word)) {
        findings.add_unless_excepted(Rule::Sql, path, "SQL is spoken in crates/store alone");
    }
    if is_service && let Some(word) = AGENTS_DRIVERS.iter().find(|word| code.contains(**word)) {
        findings.add(path, format!("{word} is the agent's: a service says what it wants over hostlink"));
    }
}

/// The text up to its unit tests.
fn before_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::{before_tests, has_word};

    #[test]
    fn words_by_themselves() {
        let word = ["FIX", "ME"].concat();
        for (line, expected) in [
            (format!("// {word}: later"), true),
            (word.clone(), true),
            (format!("PRE{word}"), false),
            (format!("{word}D"), false),
            ("nothing".to_owned(), false),
        ] {
            assert_eq!(has_word(&line, &word), expected, "{line}");
        }
        let call = ["todo", "!("].concat();
        assert!(has_word(&format!("    {call}\"later\")"), &call));
    }

    #[test]
    fn unit_tests_do_not_count() {
        assert_eq!(before_tests("a\n#[cfg(test)]\nmod tests {}\n"), "a\n");
        assert_eq!(before_tests("a\n"), "a\n");
    }
}
