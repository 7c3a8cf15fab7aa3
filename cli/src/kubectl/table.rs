//! Columns as wide as they must be.

/// Lines of cells as text; the last column is not padded.
pub(super) fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(padded.join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_line_up() {
        let lines = [["NAME", "PHASE"], ["a-long-name", "Running"]];
        let lines = lines.map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(
            table(&lines),
            "NAME          PHASE\na-long-name   Running\n"
        );
    }
}
