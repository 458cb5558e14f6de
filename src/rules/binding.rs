//! What a key says about its values: the parameters of the query that fills it again, and which patterns delete it.

use super::filter::Filter;
use super::glob;
use super::template::{Fill, Hole, Kind, Rendered, Segment, Template};
use std::sync::Arc;

/// A key's values by hole, as a query gets them.
///
/// A value has passed the filters that bring it into one form (`lower`, `upper`, `trim`, `date`), not those that disguise it (`md5`,
/// `sha1`, `sha256`, `tag`) nor what follows them: so that the key decides the values, and SQL can compare them with columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Binding(Arc<[(String, String)]>);

impl Binding {
    /// The values of a key that is rendered from `fill`; None where one is not known, or is no text.
    #[must_use]
    pub fn new<'a>(template: &Template, fill: impl Fn(&str) -> Fill<'a>) -> Option<Self> {
        let values = template.holes().into_iter().map(|hole| {
            let Fill::Value(value) = fill(hole) else { return None };
            let value = forms(template, hole).iter().try_fold(value.to_vec(), |v, f| f.apply(v)).ok()?;
            Some((hole.to_owned(), String::from_utf8(value).ok()?))
        });
        values.collect::<Option<Vec<_>>>().map(|v| Self(v.into()))
    }

    /// The values in a key; None where it is none of the template's, says them in disguise, or could be read in two ways.
    #[must_use]
    pub fn read(template: &Template, prefix: &str, key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?.strip_prefix(prefix).filter(|t| t.len() <= LONGEST_READ)?;
        if template.kind == Kind::Pattern {
            return None;
        }
        let (mut found, mut values) = (Vec::new(), Vec::new());
        split(&template.segments, text, &mut values, &mut |values| {
            let of = |hole: &str| template.holes().iter().position(|h| *h == hole);
            let mut by_hole: Vec<Option<&str>> = vec![None; template.holes().len()];
            for (hole, value) in values {
                let tag = hole.filters.last() == Some(&Filter::Tag);
                let bare = if tag { value.strip_prefix('{').and_then(|v| v.strip_suffix('}')) } else { Some(*value) };
                if let (Some(i), Some(bare)) = (of(&hole.name), bare) {
                    by_hole[i].get_or_insert(bare);
                }
            }
            let fill =
                |hole: &str| of(hole).and_then(|i| by_hole[i]).map_or(Fill::Unknown, |v| Fill::Value(v.as_bytes()));
            // Whether filters and repeated holes agree: these values make this key.
            if let Some(binding) = Self::new(template, fill)
                && binding.render(template, prefix) == Rendered::Key(key.to_vec())
                && !found.contains(&binding)
            {
                found.push(binding);
            }
            found.len() < 2
        });
        if found.len() == 1 { found.pop() } else { None }
    }

    /// The value of a hole.
    #[must_use]
    pub fn get(&self, hole: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == hole).map(|(_, value)| value.as_str())
    }

    /// Hole and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Renders another template from these values.
    #[must_use]
    pub fn render(&self, template: &Template, prefix: &str) -> Rendered {
        template.render(prefix.as_bytes(), |hole| self.get(hole).map_or(Fill::Unknown, |v| Fill::Value(v.as_bytes())))
    }

    /// The pattern by which a change of these values evicts `key`; None where it does not match the key.
    #[must_use]
    pub fn pattern_over(&self, key: &[u8], template: &Template, prefix: &str) -> Option<Vec<u8>> {
        if template.kind == Kind::Key {
            return None;
        }
        Some(self.render(template, prefix).bytes().to_vec()).filter(|pattern| glob::matches(pattern, key))
    }
}

/// Longer keys are not taken apart: how often that can be tried grows with their length.
const LONGEST_READ: usize = 512;

/// Every way in which `text` can be made of the segments, until `each` says that it has enough.
fn split<'k, 't>(
    segments: &'t [Segment],
    text: &'k str,
    values: &mut Vec<(&'t Hole, &'k str)>,
    each: &mut impl FnMut(&[(&'t Hole, &'k str)]) -> bool,
) -> bool {
    let Some((first, rest)) = segments.split_first() else { return !text.is_empty() || each(values) };
    match first {
        Segment::Literal(literal) | Segment::Glob(literal) => match text.strip_prefix(literal.as_str()) {
            Some(text) => split(rest, text, values, each),
            None => true,
        },
        Segment::Hole(hole) => {
            // Only where what follows can begin.
            let ends: Vec<usize> = match rest.first() {
                None => vec![text.len()],
                Some(Segment::Literal(next) | Segment::Glob(next)) => {
                    let starts = |i: &usize| text.is_char_boundary(*i) && text[*i..].starts_with(next.as_str());
                    (0..text.len()).filter(starts).collect()
                }
                Some(Segment::Hole(_)) => (0..=text.len()).filter(|i| text.is_char_boundary(*i)).collect(),
            };
            for end in ends {
                values.push((hole, &text[..end]));
                let more = split(rest, &text[end..], values, each);
                values.pop();
                if !more {
                    return false;
                }
            }
            true
        }
    }
}

/// The filters that bring a hole's value into one form, as far as all its occurrences agree on them.
fn forms(template: &Template, name: &str) -> Vec<Filter> {
    let form = |f: &&Filter| matches!(f, Filter::Lower | Filter::Upper | Filter::Trim | Filter::Date);
    let mut of = template.segments.iter().filter_map(|segment| match segment {
        Segment::Hole(Hole { name: n, filters }) if n == name => Some(filters.as_slice()),
        _ => None,
    });
    let mut common: Vec<Filter> = of.next().unwrap_or_default().iter().take_while(form).copied().collect();
    for other in of {
        let same = common.iter().zip(other).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    common
}

/// Whether some key may belong to both templates, whatever the values.
#[must_use]
pub fn overlapping(left: &Template, right: &Template) -> bool {
    let whole = |template: &Template| match template.whole(b"") {
        Rendered::Pattern(pattern) => pattern,
        Rendered::Key(key) => glob::escape(&key),
    };
    glob::intersects(&whole(left), &whole(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text, if text.contains('*') { Kind::Pattern } else { Kind::Key }).unwrap()
    }

    fn binding(text: &str, value: &'static str) -> Option<Binding> {
        Binding::new(&template(text), |_| Fill::Value(value.as_bytes()))
    }

    #[test]
    fn a_parameter_has_the_form_that_the_key_has_and_no_disguise() {
        for (text, value, expected) in [
            ("u:{x}", "A ", "A "),
            ("u:{x|trim|lower}", " A ", "a"),
            ("u:{x|lower|md5}", "A", "a"),
            ("u:{x|md5|upper}", "A", "A"),
            ("u:{x|tag}", "A", "A"),
            ("d:{x|date}", "2026-11-20 23:59:59+00", "2026-11-20"),
            // Two keys may differ in case here, so the parameter must, too.
            ("u:{x|lower}:{x}", "A", "A"),
            ("u:{x|trim|lower}:{x|trim|upper}", " A ", "A"),
        ] {
            assert_eq!(binding(text, value).unwrap().get("x"), Some(expected), "{text}");
        }
        assert_eq!(binding("d:{x|date}", "no day"), None);
    }

    #[test]
    fn a_key_says_its_values_unless_it_could_mean_two_things() {
        let read = |text: &str, key: &str| {
            let binding = Binding::read(&template(text), "app:", format!("app:{key}").as_bytes())?;
            Some(binding.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
        };
        let is = |values: &str| Some(values.to_owned());
        assert_eq!(read("u:{id}", "u:7:8"), is("id=7:8"));
        assert_eq!(read("u:{id}:p", "u:7:p:p"), is("id=7:p"));
        assert_eq!(read("u:{a}:{b}", "u:7:8"), is("a=7 b=8"));
        assert_eq!(read("u:{a}:{b}", "u:7:8:9"), None, "7 and 8:9, or 7:8 and 9");
        assert_eq!(read("u:{a}{b}", "u:78"), None);
        assert_eq!(read("u:{a}:{a}", "u:7:7"), is("a=7"));
        assert_eq!(read("u:{a}:{a}", "u:7:8"), None);
        assert_eq!(read("u:{a|tag}:{b}", "u:{7}:8"), is("a=7 b=8"));
        assert_eq!(read("u:{a|lower}", "u:x"), is("a=x"));
        assert_eq!(read("u:{a|lower}", "u:X"), None, "no value makes it");
        assert_eq!(read("u:{a|md5}", "u:0cc175b9c0f1b6a831c399e269772661"), None);
        assert_eq!(read("u:{a|date}", "u:2026-11-20"), is("a=2026-11-20"));
        assert_eq!(read("u:{id}", "v:7"), None);
        assert_eq!(Binding::read(&template("u:{id}"), "app:", b"u:7"), None);
        assert!(read("only", "only").is_some());
        assert_eq!(read("u:{id}", &format!("u:{}", "x".repeat(LONGEST_READ))), None);
    }

    #[test]
    fn a_pattern_that_does_not_reach_the_key_is_none_over_it() {
        let over = |key: &str, pattern: &str, value: &'static str| {
            binding(key, value)?.pattern_over(
                binding(key, value)?.render(&template(key), "").bytes(),
                &template(pattern),
                "",
            )
        };
        assert_eq!(over("u:{x}:p", "u:{x}:*", "7*").as_deref(), Some(&b"u:7\\*:*"[..]));
        assert_eq!(over("u:{x}:p", "u:{x|lower}:*", "A"), None);
        assert_eq!(over("u:{x}:p", "u:{x}:p", "7"), None, "a key is its own name");
    }

    #[test]
    fn templates_overlap_where_one_key_can_be_of_both() {
        for (left, right, yes) in [
            ("u:{a}:p", "u:{b}:*", true),
            ("u:{a}:p", "u:{b}:q", false),
            ("u:{a}", "users:{b}", false),
            ("a:{x}:b", "a:b:{y}", true),
            ("a:x", "a:{y}", true),
            ("a:{{x}}", "a:{y}", true),
        ] {
            assert_eq!(overlapping(&template(left), &template(right)), yes, "{left} and {right}");
            assert_eq!(overlapping(&template(right), &template(left)), yes, "{right} and {left}");
        }
    }
}
