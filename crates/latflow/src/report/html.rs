//! The report as one page that needs nothing else: no scripts, no fonts, no pictures from elsewhere.

use super::document::{Block, Cell, Table};
use super::svg::escape;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;margin:2rem auto;padding:0 1rem;\
max-width:76rem;color:#1a1a1a;background:#ffffff}\
h1,h2{line-height:1.2}h2{margin-top:2.2rem}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:1rem 0;font-size:.87rem}\
th,td{padding:.25rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid #dddddd}\
th{border-bottom:2px solid #888888}th:first-child,td:first-child{text-align:left}\
td.alarm{font-weight:700;color:#b00020}\
figure{margin:1.5rem 0}figure svg{max-width:100%;height:auto}figcaption{font-size:.87rem}\
pre{background:#f3f3f3;padding:.7rem 1rem;overflow-x:auto;font-size:.85rem}\
details{margin:.3rem 0}summary{cursor:pointer}\
@media (prefers-color-scheme:dark){@media screen{body{color:#e8e8e8;background:#16181b}\
th,td{border-color:#3a3a3a}th{border-bottom-color:#888888}td.alarm{color:#ff8a80}pre{background:#23262b}}}\
@media print{body{margin:0;max-width:none;font-size:10pt}table{font-size:7pt}th,td{padding:.15rem .3rem}\
figure,table{break-inside:avoid}details{display:none}}";

/// The page.
pub(super) fn page(blocks: &[Block]) -> String {
    let title = blocks.iter().find_map(|block| match block {
        Block::Heading(1, text) => Some(escape(text)),
        _ => None,
    });
    let body: Vec<String> = blocks.iter().map(element).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{}\n</body>\n</html>\n",
        title.unwrap_or_default(),
        body.join("\n")
    )
}

fn element(block: &Block) -> String {
    match block {
        Block::Heading(level, text) => format!("<h{level}>{}</h{level}>", escape(text)),
        Block::Text(text) => format!("<p>{}</p>", prose(text)),
        Block::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>", prose(item))).collect();
            format!("<ul>{items}</ul>")
        }
        Block::Table(rows) => table(rows),
        Block::Figure(figure) => {
            let caption = escape(&figure.caption);
            format!("<figure>\n{}<figcaption>{caption}</figcaption>\n</figure>", figure.svg)
        }
        Block::Code(text) => format!("<pre><code>{}</code></pre>", escape(text)),
        Block::Details(summary, text) => format!(
            "<details><summary>{}</summary><pre><code>{}</code></pre></details>",
            escape(summary),
            escape(text)
        ),
    }
}

/// Code spans are the only markup inside a text.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    });
    parts.collect()
}

fn table(table: &Table) -> String {
    let row = |(index, cells): (usize, &Vec<Cell>)| {
        let tag = if index == 0 { "th" } else { "td" };
        let cells = cells.iter().map(|cell| {
            let class = if cell.alarm { " class=\"alarm\"" } else { "" };
            format!("<{tag}{class}>{}</{tag}>", escape(&cell.text))
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = table.rows.iter().enumerate().map(row).collect();
    format!("<div class=\"wide\"><table>\n{rows}</table></div>")
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::report::document::{Block, Figure, Table};

    /// Nothing is fetched, and nothing of a text is taken for markup.
    #[test]
    fn the_page_is_self_contained() {
        let svg = crate::report::svg::Svg::new(1.0).finish(1.0, "t");
        let blocks = [
            Block::Heading(1, "A & B".into()),
            Block::Text("flags `--x <y>`".into()),
            Block::Table(Table { rows: vec![vec!["⟨|M|⟩".into()], vec!["<script>".into()]] }),
            Block::Figure(Figure { name: "f".into(), svg, caption: "c".into() }),
        ];
        let text = page(&blocks);
        assert!(text.contains("<title>A &amp; B</title>") && text.contains("<code>--x &lt;y&gt;</code>"));
        assert!(text.contains("<td>&lt;script&gt;</td>") && text.contains("<svg"));
        // The namespace of SVG is a name, not an address.
        let rest = text.replace("http://www.w3.org/2000/svg", "");
        for needle in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"] {
            assert!(!rest.contains(needle), "{needle}");
        }
    }
}
