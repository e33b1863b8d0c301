//! Matrices cut into tiles that threads may write at the same time: disjoint by construction.

use std::marker::PhantomData;
use std::ops::Range;

use crate::pool::Pool;

/// A row-major matrix to be written in tiles of `row_step` × `column_step` (less at the lower and right edges).
#[derive(Debug)]
pub struct Grid<'a, T> {
    /// `[rows, width]`; the length is a multiple of `width`.
    pub out: &'a mut [T],
    /// Columns of the matrix.
    pub width: usize,
    /// Rows of a tile.
    pub row_step: usize,
    /// Columns of a tile.
    pub column_step: usize,
}

/// A rectangle of a matrix that nobody else touches.
#[derive(Debug)]
pub struct Tile<'a, T> {
    start: *mut T,
    width: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    matrix: PhantomData<&'a mut [T]>,
}

impl<T> Tile<'_, T> {
    /// Which rows of the matrix.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Which columns of the matrix.
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// The tile's part of a row of the matrix; `row` counts from the matrix' first.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(self.rows.contains(&row), "row {row} is outside of the tile {:?}", self.rows);
        let offset = row * self.width + self.columns.start;
        // SAFETY: row and columns lie inside the matrix (`run` cut them out of it), whose borrow outlives the tile; no other
        // tile has these columns of this row, and `&mut self` keeps the rows of this one apart in time.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset), self.columns.len()) }
    }
}

impl Pool {
    /// Calls `work` with each row of a row-major matrix, on all threads.
    pub fn rows<T: Send>(&self, out: &mut [T], row_len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        if row_len == 0 {
            return;
        }
        let step = (out.len() / row_len).div_ceil(self.threads() * 8).max(1);
        self.tiles(
            &mut [Grid { out, width: row_len, row_step: step, column_step: row_len }],
            |_, mut tile| {
                for row in tile.rows() {
                    work(row, tile.row(row));
                }
            },
        );
    }

    /// Calls `work` with disjoint column ranges of a row-major matrix, each (but the last) `step` columns wide.
    pub fn columns<T: Send>(
        &self,
        out: &mut [T],
        width: usize,
        step: usize,
        work: impl Fn(Tile<'_, T>) + Sync,
    ) {
        let rows = out.len().checked_div(width).unwrap_or(0).max(1);
        self.tiles(&mut [Grid { out, width, row_step: rows, column_step: step }], |_, tile| work(tile));
    }

    /// Calls `work` with each tile of some matrices, and with the number of the matrix.
    pub fn tiles<T: Send>(&self, grids: &mut [Grid<'_, T>], work: impl Fn(usize, Tile<'_, T>) + Sync) {
        run(self, grids, work);
    }
}

/// A matrix as threads share it.
struct Plan<T> {
    start: *mut T,
    rows: usize,
    width: usize,
    row_step: usize,
    column_step: usize,
    /// Tiles of this matrix and of those before it.
    tiles_to_here: usize,
}

// SAFETY: a plan is only a place and its measures; the elements are reached through tiles, each made once, for one thread,
// and `T: Send` is asked for where plans are made.
unsafe impl<T: Send> Sync for Plan<T> {}

/// See [`Pool::tiles`].
fn run<T: Send>(pool: &Pool, grids: &mut [Grid<'_, T>], work: impl Fn(usize, Tile<'_, T>) + Sync) {
    let mut total = 0;
    let plans: Vec<Plan<T>> = grids
        .iter_mut()
        .map(|grid| {
            let rows = grid.out.len().checked_div(grid.width).unwrap_or(0);
            assert_eq!(rows * grid.width, grid.out.len(), "the matrix has whole rows");
            let (row_step, column_step) = (grid.row_step.max(1), grid.column_step.max(1));
            total += rows.div_ceil(row_step) * grid.width.div_ceil(column_step);
            let (start, width) = (grid.out.as_mut_ptr(), grid.width);
            Plan { start, rows, width, row_step, column_step, tiles_to_here: total }
        })
        .collect();
    pool.run(total, &|chunk| {
        let index = plans.partition_point(|plan| plan.tiles_to_here <= chunk);
        let before = if index == 0 { 0 } else { plans[index - 1].tiles_to_here };
        let plan = &plans[index];
        let across = plan.width.div_ceil(plan.column_step);
        let (row, column) =
            ((chunk - before) / across * plan.row_step, (chunk - before) % across * plan.column_step);
        let tile = Tile {
            start: plan.start,
            width: plan.width,
            rows: row..(row + plan.row_step).min(plan.rows),
            columns: column..(column + plan.column_step).min(plan.width),
            matrix: PhantomData,
        };
        work(index, tile);
    });
}
