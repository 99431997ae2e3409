//! Plots of a suite, as SVG: a panel of bars by system for each work that peers did too, or lines where a work grows.
//!
//! Lines are drawn of works that are named "RATE by WHAT GROWS: NUMBER". A thin line at a bar or a point goes from minimum to
//! maximum.

use crate::cluster::Error;
use crate::report::{Better, Row, SYNOD};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::{Path, PathBuf};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 960;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(120, 120, 120);
/// Ours, and those of the peers: told apart without red and green.
const OURS: RGBColor = RGBColor(0, 90, 160);
const THEIRS: [RGBColor; 4] =
    [RGBColor(214, 137, 16), RGBColor(120, 150, 175), RGBColor(160, 110, 150), RGBColor(140, 140, 120)];

/// Draws what there is to draw of `rows` into `dir`; where there is nothing, no file.
pub(crate) fn draw(suite: &str, rows: &[Row], dir: &Path) -> Result<Option<PathBuf>, Error> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(format!("{suite}.svg"));
    let (works, curves) = (works_with_peers(rows), curves(rows));
    if !works.is_empty() {
        bars(suite, &works, &path)?;
    } else if !curves.is_empty() {
        lines(suite, &curves, &path)?;
    } else {
        return Ok(None);
    }
    Ok(Some(path))
}

// ---------------------------------------------------------------- bars

/// The rows of each work that more than one system did, in their order.
fn works_with_peers(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut works: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match works.iter_mut().find(|work| work.first().is_some_and(|first| first.work == row.work)) {
            Some(work) => work.push(row),
            None => works.push(vec![row]),
        }
    }
    // The same words may stand beside several works of ours alone.
    works.retain(|work| work.first().is_some_and(|first| work.iter().any(|row| row.system != first.system)));
    works
}

const BAR: i32 = 18;
const TITLE: i32 = 40;
/// Above the bars of a work, its name; below, a gap.
const ABOVE_BARS: i32 = 22;
const BELOW_BARS: i32 = 14;
/// Where bars begin, and where the longest ends; the figure stands behind it.
const BARS_FROM: i32 = 120;
const BARS_TO: i32 = 780;

fn bars(suite: &str, works: &[Vec<&Row>], path: &Path) -> Result<(), Error> {
    let height_of = |work: &Vec<&Row>| ABOVE_BARS + BAR * work.len() as i32 + BELOW_BARS;
    let height = TITLE + works.iter().map(height_of).sum::<i32>();
    let area = SVGBackend::new(path, (WIDTH, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = format!("{suite}: medians, thin lines from minimum to maximum");
    write_text(&area, &text, (16, 12), 17, INK, HPos::Left)?;
    let mut top = TITLE;
    for work in works {
        work_bars(&area, work, top)?;
        top += height_of(work);
    }
    area.present()?;
    Ok(())
}

fn work_bars(area: &Area<'_>, work: &[&Row], top: i32) -> Result<(), Error> {
    let Some(first) = work.first() else { return Ok(()) };
    let what = if first.better == Better::Higher { "more is better" } else { "less is better" };
    let title = format!("{}, {} ({what})", first.work, first.unit);
    write_text(area, &title, (16, top + 4), 14, INK, HPos::Left)?;
    let longest = work.iter().map(|row| row.max).fold(f64::MIN_POSITIVE, f64::max);
    let at = |figure: f64| BARS_FROM + (figure / longest * f64::from(BARS_TO - BARS_FROM)) as i32;
    for (number, row) in work.iter().enumerate() {
        let y = top + ABOVE_BARS + BAR * number as i32;
        let middle = y + BAR / 2 - 1;
        write_text(area, row.system, (BARS_FROM - 8, y + 2), 12, INK, HPos::Right)?;
        let color = if row.system == SYNOD { OURS } else { THEIRS[number.saturating_sub(1) % THEIRS.len()] };
        area.draw(&Rectangle::new([(BARS_FROM, y), (at(row.median), y + BAR - 4)], color.filled()))?;
        area.draw(&PathElement::new([(at(row.min), middle), (at(row.max), middle)], INK.stroke_width(1)))?;
        let ratio = row.ratio_to_best_peer.map(|ratio| format!("  ({ratio:.2} ×)")).unwrap_or_default();
        let figure = format!("{}{ratio}", short(row.median));
        write_text(area, &figure, (at(row.max) + 8, y + 2), 12, INK, HPos::Left)?;
    }
    Ok(())
}

// ---------------------------------------------------------------- lines

/// A work that grows.
struct Curve<'a> {
    /// "rate by payload in bytes".
    name: &'a str,
    unit: &'a str,
    points: Vec<(f64, &'a Row)>,
}

/// A line needs so many points.
const POINTS_MIN: usize = 3;

fn curves(rows: &[Row]) -> Vec<Curve<'_>> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    for row in rows {
        let Some((name, number)) = row.work.rsplit_once(": ") else { continue };
        let Ok(at) = number.parse::<f64>() else { continue };
        match curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push((at, row)),
            None => curves.push(Curve { name, unit: row.unit, points: vec![(at, row)] }),
        }
    }
    curves.retain(|curve| curve.points.len() >= POINTS_MIN);
    curves
}

const PANEL: u32 = 250;

fn lines(suite: &str, curves: &[Curve<'_>], path: &Path) -> Result<(), Error> {
    let panels = curves.len().div_ceil(2);
    let height = TITLE as u32 + PANEL * panels as u32;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = format!("{suite}: medians, thin lines from minimum to maximum");
    write_text(&area, &text, (16, 12), 17, INK, HPos::Left)?;
    let (_, rest) = area.split_vertically(TITLE);
    for (curve, panel) in curves.iter().zip(rest.split_evenly((panels, 2))) {
        curve_panel(&panel, curve)?;
    }
    area.present()?;
    Ok(())
}

fn curve_panel(panel: &Area<'_>, curve: &Curve<'_>) -> Result<(), Error> {
    let most = curve.points.iter().map(|(_, row)| row.max).fold(0.0, f64::max);
    let (first, last) = match (curve.points.first(), curve.points.last()) {
        (Some((first, _)), Some((last, _))) => (*first, *last),
        _ => return Ok(()),
    };
    // Ten times as much or more is drawn by its logarithm; each point has its own number below.
    let is_wide = last / first >= 10.0;
    let place = |at: f64| if is_wide { at.log2() } else { at };
    let (from, to) = (place(first), place(last));
    let margin = (to - from) * 0.05;
    let mut chart = ChartBuilder::on(panel)
        .caption(format!("{}, {}", curve.name, curve.unit), (FONT, 14).into_font().color(&INK))
        .margin(12)
        .x_label_area_size(20)
        .y_label_area_size(48)
        .build_cartesian_2d(from - margin..to + margin, 0.0..most * 1.05)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_labels(5)
        .y_label_formatter(&|figure| short(*figure))
        .label_style((FONT, 11).into_font().color(&FAINT))
        .light_line_style(WHITE.mix(0.0))
        .axis_style(FAINT)
        .draw()?;
    let points = || curve.points.iter().map(|(at, row)| (place(*at), *row));
    chart.draw_series(LineSeries::new(points().map(|(at, row)| (at, row.median)), OURS.stroke_width(2)))?;
    chart.draw_series(points().map(|(at, row)| PathElement::new([(at, row.min), (at, row.max)], INK)))?;
    chart.draw_series(points().map(|(at, row)| Circle::new((at, row.median), 3, OURS.filled())))?;
    let bottom = panel.dim_in_pixel().1 as i32 - 26;
    for (at, _) in &curve.points {
        let (x, _) = chart.backend_coord(&(place(*at), 0.0));
        let x = x - panel.get_base_pixel().0;
        write_text(panel, &short(*at), (x, bottom), 11, FAINT, HPos::Center)?;
    }
    Ok(())
}

// ---------------------------------------------------------------- words

fn write_text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: u32,
    color: RGBColor,
    anchor: HPos,
) -> Result<(), Error> {
    let style = (FONT, size).into_font().color(&color).pos(Pos::new(anchor, VPos::Top));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

/// 1 234 567 as "1.23 M".
fn short(figure: f64) -> String {
    let (scaled, unit) = match figure.abs() {
        size if size >= 1e6 => (figure / 1e6, " M"),
        size if size >= 1e4 => (figure / 1e3, " k"),
        _ => (figure, ""),
    };
    match scaled.abs() {
        size if size >= 100.0 || size == size.trunc() => format!("{scaled:.0}{unit}"),
        size if size >= 10.0 => format!("{scaled:.1}{unit}"),
        _ => format!("{scaled:.2}{unit}"),
    }
}
