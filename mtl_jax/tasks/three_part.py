"""The three-part loss: task + lambda content + mu interest, as one line of a config."""

from mtl_jax.core.task_spec import TaskSpec


def three_part(
    *tasks: TaskSpec, lam: float, mu: float, categories: int, tags: int = 0
) -> tuple[TaskSpec, ...]:
    """`tasks`, and content and interest as auxiliary tasks of weight `lam` and `mu`.

    content: softmax cross-entropy on the category of each distinct item, from its vector, and
    (tags > 0) soft cross-entropy on its tags, half of `lam` each.  interest: soft cross-entropy on
    the distribution of categories over the user's next positive events.
    categories, tags: sizes of the vocabularies, 0 = unknown included (`Schema.n_categories`).
    """
    if not categories:
        raise ValueError("three_part needs items with a category")
    share = lam / 2 if tags else lam
    content = [TaskSpec("content", "multiclass", "category", "", share, categories, level="item")]
    if tags:
        content.append(TaskSpec("tags", "multiclass", "tags", "", share, tags, level="item"))
    interest = TaskSpec("interest", "multiclass", "interest", "", mu, categories, level="user")
    return (*tasks, *content, interest)
