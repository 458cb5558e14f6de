//! The one place where text becomes SQL.

/// An identifier in SQL quotes.
#[must_use]
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal that means the same whatever `standard_conforming_strings` says.
#[must_use]
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(ident("Order \"Lines\""), "\"Order \"\"Lines\"\"\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b"), "E'a\\\\b'");
    }

    /// Reads a quoted identifier or a literal as PostgreSQL's lexer does; what it says, and what is left behind it.
    fn read(sql: &str, standard: bool) -> (String, &str) {
        let (escapes, rest) = sql.strip_prefix('E').map_or((false, sql), |rest| (true, rest));
        let quote = rest.chars().next().unwrap();
        let escapes = escapes || (!standard && quote == '\'');
        let (mut out, mut chars) = (String::new(), rest[1..].char_indices());
        while let Some((i, c)) = chars.next() {
            let after = &rest[1 + i + c.len_utf8()..];
            match c {
                '\\' if escapes => out.push(chars.next().unwrap().1),
                c if c == quote && after.starts_with(quote) => {
                    out.push(quote);
                    chars.next();
                }
                c if c == quote => return (out, after),
                c => out.push(c),
            }
        }
        panic!("{sql} does not end");
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_is_read_as_itself_and_ends_where_it_should(text in "[ -~\\PC'\"\\\\E$;]{0,12}", standard in any::<bool>()) {
            for (quoted, text) in [(ident(&text), &text), (literal(&text), &text)] {
                let sql = format!("{quoted};rest");
                prop_assert_eq!(read(&sql, standard), (text.clone(), ";rest"), "{}", quoted);
            }
        }
    }
}
