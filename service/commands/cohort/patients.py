"""The ``mirv cohort`` commands on patients: response, correlate, survival, explore."""

from pathlib import Path
from typing import Annotated

import typer

from mirv.analysis.choices import Aggregate, MedianSplit, MissingLater, TimePoint
from mirv.config.errors import BadInput
from mirv.service.commands.cohort.options import (
    OUT,
    CohortOption,
    DeriveOption,
    FormatOption,
    IndexDateOption,
    LesionOption,
    OutOption,
    PatientOption,
    ProfileOption,
    SiteOption,
    TablesOption,
    TimePointOption,
    WhereOption,
    chosen,
    listed,
    pairs,
    read,
    running,
)

patients_app = typer.Typer()
ONE_EACH = "a response is between one study of a person and one later"


@patients_app.command("response")
def response(
    volumes: Annotated[
        Path | None, typer.Option(help="Table with both volumes of a lesion in one row.")
    ] = None,
    previous: Annotated[
        Path | None, typer.Option(help="Or: lesions of the earlier time point ...")
    ] = None,
    current: Annotated[Path | None, typer.Option(help="... and of the later one.")] = None,
    patient_column: PatientOption = "",
    previous_column: Annotated[str, typer.Option(help="Earlier volume.")] = "VOLUME_PRE",
    current_column: Annotated[str, typer.Option(help="Later volume.")] = "VOLUME_POST",
    lesion_column: LesionOption = "",
    site_column: SiteOption = "",
    profile: ProfileOption = "",
    missing: Annotated[
        MissingLater,
        typer.Option(
            help="What an empty later volume means; as_published: the patient is not complete."
        ),
    ] = MissingLater.UNKNOWN,
    threshold: Annotated[float, typer.Option(min=0, help="TSRC threshold in percent.")] = 33.0,
    min_lesions: Annotated[int, typer.Option(min=1, help="Fewer: no response.")] = 2,
    long_axis_column: Annotated[
        str, typer.Option(help="Long axis in mm, for RECIST 1.1.")
    ] = "original_shape_Maximum2DDiameterSlice",
    short_axis_column: Annotated[
        str, typer.Option(help="Short axis in mm; without it a lymph node is no target.")
    ] = "",
    previous_time_point: Annotated[
        TimePoint, typer.Option(help="Which study of a person is the earlier one.")
    ] = TimePoint.BASELINE,
    current_time_point: Annotated[
        TimePoint, typer.Option(help="Which study of a person is the later one.")
    ] = TimePoint.LATEST,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
) -> None:
    """Volume change of each lesion, its range in each patient, and TSRC by every definition."""
    options = {
        "missing": missing,
        "threshold": threshold,
        "min_lesions": min_lesions,
        "current_time_point": current_time_point,
    }
    with running("response", folder, table_format, **options) as sink:
        from mirv.service.research.cohort.persons import Choice
        from mirv.service.research.cohort.response import (
            ResponseRule,
            VolumeColumns,
            write_response_of_cohorts,
            write_response_of_volumes,
        )
        from mirv.service.research.cohort.source import Columns, lesions_of_table

        rule = ResponseRule(threshold, min_lesions)
        before = chosen(sink, previous_time_point, index_date, cohorts, ONE_EACH)
        after = Choice(current_time_point, over_persons=ONE_EACH)
        if volumes is not None and previous is None and current is None:
            names = (patient_column, previous_column, current_column, site_column)
            write_response_of_volumes(volumes, sink, VolumeColumns(*names, missing), rule, before)
            return
        if volumes is not None or previous is None or current is None:
            raise BadInput("give --volumes, or --previous and --current")
        columns = Columns(patient_column, "", lesion_column, site_column, profile)
        both = (
            lesions_of_table(previous, columns, before),
            lesions_of_table(current, columns, after),
        )
        axes = (long_axis_column, short_axis_column)
        write_response_of_cohorts(*both, sink, rule, axes, lesion_column)


@patients_app.command("correlate")
def correlate(
    table: TablesOption,
    patient_column: Annotated[
        str, typer.Option(help="Column to join on; none: one table, row by row.")
    ] = "",
    columns: Annotated[str, typer.Option(help="Comma-separated; none: all numeric ones.")] = "",
    category: Annotated[
        str, typer.Option(help="Also Kruskal-Wallis of each column by this one.")
    ] = "",
    where: WhereOption = None,
    derive: DeriveOption = None,
    time_point: TimePointOption = None,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
) -> None:
    """Spearman correlation of every pair of columns, with Benjamini-Hochberg q."""
    options = {"columns": columns, "category": category, "where": where, "derive": derive}
    with running("correlate", folder, table_format, **options) as sink:
        from mirv.service.research.cohort import patients
        from mirv.service.research.cohort.outcomes import write_correlation

        reading = patients.Reading(
            patient_column,
            by_row=not patient_column,
            where=pairs(where, "=", "--where"),
            how="outer",
            choice=chosen(sink, time_point, index_date, cohorts),
        )
        found = patients.derive(read(sink, table, reading), derive or ())
        write_correlation(found, sink, listed(columns), patient_column, category)


@patients_app.command("survival")
def survival(
    table: TablesOption,
    duration: Annotated[str, typer.Option(help="Column of the time.")],
    event: Annotated[str, typer.Option(help="Column of the event: 1 happened, 0 censored.")],
    patient_column: PatientOption = "",
    terms: Annotated[str, typer.Option(help="Cox terms, comma-separated.")] = "",
    category: Annotated[
        list[str] | None,
        typer.Option(help="Categorical term, or term=reference level; repeat for more."),
    ] = None,
    interaction: Annotated[
        list[str] | None, typer.Option(help="a:b, both among the terms; repeat for more.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Kaplan-Meier by halves of these columns, comma-separated.")
    ] = "",
    split_rule: Annotated[
        MedianSplit, typer.Option(help="How the High half meets the median.")
    ] = MedianSplit.HIGH,
    subgroup: Annotated[
        str, typer.Option(help="Repeat the halves within each level of this column.")
    ] = "",
    unit: Annotated[str, typer.Option(help="Unit of the time, for the axes.")] = "",
    where: WhereOption = None,
    derive: DeriveOption = None,
    time_point: TimePointOption = None,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
) -> None:
    """Cox model with its checks, Kaplan-Meier with numbers at risk, log-rank, subgroups."""
    options = {
        "duration": duration,
        "event": event,
        "terms": terms,
        "category": category,
        "interaction": interaction,
        "split": split,
        "split_rule": split_rule,
        "subgroup": subgroup,
        "where": where,
        "derive": derive,
    }
    with running("survival", folder, table_format, **options) as sink:
        from mirv.service.research.cohort import patients
        from mirv.service.research.cohort.outcomes import (
            CoxTerms,
            Halves,
            SurvivalTime,
            write_survival,
        )

        reading = patients.Reading(
            patient_column,
            where=pairs(where, "=", "--where"),
            choice=chosen(sink, time_point, index_date, cohorts, "its rows are patients"),
        )
        found = patients.derive(read(sink, table, reading), derive or ())
        levels = {
            name: level or None
            for name, _, level in (text.partition("=") for text in category or ())
        }
        model = CoxTerms(listed(terms), levels, pairs(interaction, ":", "--interaction"))
        halves = Halves(listed(split), split_rule, subgroup)
        write_survival(found, sink, SurvivalTime(duration, event, unit), model, halves)


@patients_app.command("explore")
def explore(
    features: Annotated[Path, typer.Option(help="Table of lesions or patients.")],
    patient_column: PatientOption = "",
    outcome: Annotated[str, typer.Option(help="Column of the class.")] = "",
    pair: Annotated[
        str, typer.Option(help="negative,positive: needed when there are more than two classes.")
    ] = "",
    volume_column: Annotated[str, typer.Option(help="Column of the volume.")] = "",
    aggregate: Annotated[
        Aggregate | None, typer.Option(help="First make one row a patient of its lesions.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=10, help="Samples for the AUC limits.")] = 2000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    where: WhereOption = None,
    time_point: TimePointOption = None,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
) -> None:
    """First looks: statistics, normality, volume surrogates, correlation, two classes, ROC."""
    options = {
        "outcome": outcome,
        "pair": pair,
        "volume_column": volume_column,
        "aggregate": aggregate,
        "bootstrap": bootstrap,
        "seed": seed,
        "where": where,
    }
    with running("explore", folder, table_format, **options) as sink:
        from mirv.service.research.cohort import patients
        from mirv.service.research.cohort.outcomes import Exploration, write_exploration

        over = "its rows are made patients" if aggregate else ""
        reading = patients.Reading(
            patient_column,
            by_row=True,
            where=pairs(where, "=", "--where"),
            choice=chosen(sink, time_point, index_date, cohorts, over),
        )
        found = read(sink, [features], reading)
        classes = pairs([pair], ",", "--pair")[0] if pair else None
        exploration = Exploration(
            patient=patient_column,
            outcome=outcome,
            pair=classes,
            volume=volume_column,
            how=aggregate,
            n_bootstrap=bootstrap,
            seed=seed,
        )
        write_exploration(found, sink, exploration)
