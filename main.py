"""DANet from the command line; `python main.py COMMAND --help` tells what each command takes."""

import functools

import input_pipeline
from danet_jax import command_line, experiment, parallel
from danet_jax.evaluation.evaluate import evaluate
from danet_jax.evaluation.predictor import Predictor
from danet_jax.training import train as training
from danet_jax.visualization.evaluation_report import write_evaluation_report
from danet_jax.visualization.predictions import write_predictions


def run_prepare(args):
    data = experiment.load_config(args.config, args.overrides).data
    counts = input_pipeline.prepare(data.name, data_dir=data.data_dir, source=args.source)
    splits = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(f"{data.name} is prepared in {data.data_dir}: {splits} examples")


def run_train(args):
    config = experiment.choose_config(args.config, args.overrides, args.workdir)
    parallel.initialize(distributed=config.mesh.distributed)
    training.check_config(config)
    split = open_split(config, config.data.train_split)
    eval_split = open_split(config, config.data.eval_split)
    stream = functools.partial(input_pipeline.TrainingStream, split, config.data, seed=config.seed)
    stream = functools.partial(stream, batch_size=config.train.batch_size, **parallel.process())
    stream(next_batch=0).close()  # refuses faulty values before the workdir is touched
    steps = training.count_steps(config, len(split))

    def scores_of(model, variables, should_stop):
        evaluation = run_evaluation(config, Predictor(model, variables), eval_split, should_stop)
        return evaluation and evaluation.scores.summary()

    with experiment.opened(config, args.workdir, fresh=args.fresh, labels=split.labels):
        if training.train(
            config, args.workdir, make_stream=stream, evaluate=scores_of, total_steps=steps
        ):
            report(config, args.workdir, eval_split)


def run_eval(args):
    config = experiment.override_run(experiment.read_config(args.workdir), args.overrides)
    parallel.initialize(distributed=config.mesh.distributed)
    split = open_split(config, args.split or config.data.eval_split)
    report(config, args.workdir, split, step=args.step)


def report(config, workdir, split, *, step=None):
    predictor = Predictor.from_workdir(workdir, step=step)
    evaluation = run_evaluation(config, predictor, split)
    if not parallel.is_main_process():
        return
    using = {"config": config, "predictor": predictor, "split": split}
    path = write_evaluation_report(workdir, evaluation, **using)
    evaluation.show(split.labels.names)
    print(f"mean IoU {evaluation.scores.mean_iou:.4f} on {len(split)} images; report: {path}")


def run_evaluation(config, predictor, split, stop=lambda: False):
    size = config.eval.batch_size
    batches = input_pipeline.evaluation_batches(split, batch_size=size, **parallel.process())
    return evaluate(predictor, batches, config=config, num_images=len(split), should_stop=stop)


def run_predict(args):
    names, colors = experiment.read_classes(args.workdir)
    written = write_predictions(
        Predictor.from_workdir(args.workdir, step=args.step),
        input_pipeline.find_images(args.input),
        args.output,
        read_image=input_pipeline.read_image,
        root=args.input if args.input.is_dir() else args.input.parent,
        names=names,
        colors=colors,
    )
    print(f"{len(written)} images: labels, overlays and class shares are in {args.output}")


def open_split(config, name):
    split = input_pipeline.open_split(config.data.name, name, data_dir=config.data.data_dir)
    experiment.check_evaluation(config, split.labels.num_classes)
    return split


if __name__ == "__main__":
    runs = {"prepare": run_prepare, "train": run_train, "eval": run_eval, "predict": run_predict}
    raise SystemExit(command_line.run(runs, errors=(input_pipeline.DataError,)))
